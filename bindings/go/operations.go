package p2pmount

import (
	"context"
	"errors"
	"sync"
)

// operations runs calls of the library that wait for the network. They are started in the background and their end is an
// event on one queue, which is read by one of the goroutines that wait for an operation, for all of them: no goroutine and
// no thread is kept for it.
type operations struct {
	// lead is held by the goroutine that reads the queue.
	lead chan struct{}

	mu    sync.Mutex
	queue *queue
	users int
	over  bool
	// waiting has who waits for an operation, early what ended before it was known who does.
	waiting map[uint64]chan Row
	early   map[uint64]Row
}

func newOperations() *operations {
	return &operations{lead: make(chan struct{}, 1), waiting: map[uint64]chan Row{}, early: map[uint64]Row{}}
}

// run starts an operation of a node and waits for its end, which is the event it returns. The end of the context cancels
// the operation; run returns when that is done.
func (o *operations) run(ctx context.Context, node uint64, start func() (uint64, error)) (Row, error) {
	if ctx.Err() != nil {
		return Row{}, contextError(ctx, "the call was cancelled before it began")
	}
	events, err := o.enter(node)
	if err != nil {
		return Row{}, err
	}
	defer o.leave()
	operation, err := start()
	if err != nil {
		return Row{}, err
	}
	row, err := o.wait(ctx, events, operation)
	if err != nil {
		return Row{}, err
	}
	err = rowError(row)
	if ctx.Err() != nil && errors.Is(err, ErrCancelled) {
		err = contextError(ctx, err.Error())
	}
	return row, err
}

func (o *operations) wait(ctx context.Context, events *queue, operation uint64) (Row, error) {
	ended := o.expect(operation)
	defer o.forget(operation)
	waiting := ctx
	for {
		select {
		case row := <-ended:
			return row, nil
		case <-waiting.Done():
			// Its end comes at once then. An operation that has ended by itself meanwhile stands.
			_ = operationCancel(operation)
			waiting = context.Background()
		case o.lead <- struct{}{}:
			err := o.read(waiting, events, ended)
			<-o.lead
			if err != nil && waiting.Err() == nil && len(ended) == 0 {
				return Row{}, err
			}
		}
	}
}

// read hands out the ends of operations until the one comes that the caller waits for.
func (o *operations) read(ctx context.Context, events *queue, ended <-chan Row) error {
	for len(ended) == 0 {
		row, err := events.next(ctx)
		if err != nil {
			return err
		}
		number, _ := row.Int("operation")
		o.mu.Lock()
		if waiter, ok := o.waiting[uint64(number)]; ok {
			waiter <- row
		} else {
			o.early[uint64(number)] = row
		}
		o.mu.Unlock()
	}
	return nil
}

// enter gives the queue, made when it is first needed.
func (o *operations) enter(node uint64) (*queue, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return nil, errNodeClosed()
	}
	if o.queue == nil {
		made, err := newQueue(node, EventOperation, 0)
		if err != nil {
			return nil, err
		}
		o.queue = made
	}
	o.users++
	return o.queue, nil
}

func (o *operations) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users--
	o.closeIfDone()
}

// end is called when the node is closed. The queue goes when the last operation has read its end from it.
func (o *operations) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	o.closeIfDone()
}

func (o *operations) closeIfDone() {
	if o.over && o.users == 0 && o.queue != nil {
		o.queue.close()
		o.queue = nil
	}
}

func (o *operations) expect(operation uint64) <-chan Row {
	o.mu.Lock()
	defer o.mu.Unlock()
	ended := make(chan Row, 1)
	if row, ok := o.early[operation]; ok {
		delete(o.early, operation)
		ended <- row
	} else {
		o.waiting[operation] = ended
	}
	return ended
}

func (o *operations) forget(operation uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waiting, operation)
}
