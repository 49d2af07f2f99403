//! Whether small frames wait for those of other streams.

/// A write to the socket costs much the same for one frame as for ten. Where the last write carried frames of several
/// streams, more of them are likely to follow soon: then the tasks that are ready have their turn first. So it is with a new
/// stream, whose first words follow at once. A stream that speaks alone waits no more than once after others have spoken. Only
/// little waits, see `Output::waits_for_company`.
#[derive(Default)]
pub(super) struct Company {
    /// A stream with a frame that was added since the last write, and whether there is another such stream.
    stream: Option<u32>,
    several: bool,
    /// The last write carried frames of several streams, or there is a new one.
    expected: bool,
    waited: bool,
}

impl Company {
    /// There is a frame of `stream` to be written. Those of the connection itself, 0, are nobody's company.
    pub(super) fn add(&mut self, stream: u32) {
        if stream != 0 {
            self.several |= *self.stream.get_or_insert(stream) != stream;
        }
    }

    /// A stream was handed out: who gets it, or its first frame, is about to have something to say. However many follow, those
    /// that live add a frame each to what waits, so that it is soon enough to be written.
    pub(super) fn greet(&mut self) {
        (self.expected, self.waited) = (true, false);
    }

    /// Whether writing should wait for others: true at most once before a write, or before the next stream is handed out.
    pub(super) fn is_awaited(&mut self) -> bool {
        self.expected && !std::mem::replace(&mut self.waited, true)
    }

    /// The socket has taken frames.
    pub(super) fn leave(&mut self) {
        *self = Company { expected: self.several, ..Company::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a write with frames of these streams waits, as often as it is asked.
    fn write(company: &mut Company, streams: &[u32]) -> [bool; 2] {
        for stream in streams {
            company.add(*stream);
        }
        let waits = [company.is_awaited(), company.is_awaited()];
        company.leave();
        waits
    }

    #[test]
    fn who_speaks_alone_does_not_wait() {
        let mut company = Company::default();
        for stream in [1, 1, 3, 5, 5] {
            assert_eq!(write(&mut company, &[stream, 0, stream]), [false, false]);
        }
    }

    #[test]
    fn after_a_write_of_several_streams_the_next_waits_once() {
        let mut company = Company::default();
        assert_eq!(write(&mut company, &[1, 3]), [false, false]);
        assert_eq!(write(&mut company, &[3, 1, 5]), [true, false]);
        assert_eq!(write(&mut company, &[1]), [true, false], "others may still come");
        assert_eq!(write(&mut company, &[1, 1]), [false, false], "nobody came");
    }

    #[test]
    fn streams_that_are_handed_out_one_after_the_other_leave_together() {
        let mut company = Company::default();
        write(&mut company, &[1, 3]);
        for stream in [5, 7, 9] {
            company.add(stream);
            assert!(company.is_awaited());
            company.greet();
        }
        assert_eq!(write(&mut company, &[]), [true, false]);
    }
}
