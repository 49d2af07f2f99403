//! The descriptor that lines go to, which belongs to the host program: it may be full, closed at its other end, or shared.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, OFlags, fcntl_getfl, fstat},
};
use socket2::SockRef;

use crate::error::{Error, Result, Status};

/// How long one line waits for room.
const WRITE_MAX: Duration = Duration::from_millis(100);
/// How long it waits before it looks whether the output is still in use.
const LOOK: Duration = Duration::from_millis(10);

pub(super) struct Output {
    fd: OwnedFd,
    socket: bool,
    retired: AtomicBool,
    /// Held while a line is written. True if the last one was cut off in its middle.
    torn: Mutex<bool>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Written {
    Whole,
    Failed,
    /// The output was replaced before the line was through.
    Retired,
}

impl Output {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let failed = |e: rustix::io::Errno| Error::system(Status::System, "log output", &e.into());
        let mode = fcntl_getfl(&fd).map_err(failed)?;
        if mode & OFlags::RWMODE == OFlags::RDONLY {
            return Err(Error::new(Status::InvalidArgument, "log output is not open for writing"));
        }
        let socket = FileType::from_raw_mode(fstat(&fd).map_err(failed)?.st_mode).is_socket();
        Ok(Output { fd, socket, retired: AtomicBool::new(false), torn: Mutex::new(false) })
    }

    /// Writes a line, at most 4,096 bytes, so that a pipe with any room has room for all of it. Waits for room, but not long.
    pub(super) fn write(&self, line: &[u8]) -> Written {
        let mut torn = self.torn.lock();
        let deadline = Instant::now() + WRITE_MAX;
        if *torn {
            // What is left of the line that was cut off must not be taken for the beginning of this one.
            let end = self.write_all(b"\n", deadline).0;
            if end != Written::Whole {
                return end;
            }
            *torn = false;
        }
        let (written, bytes) = self.write_all(line, deadline);
        *torn = bytes > 0 && bytes < line.len();
        written
    }

    /// Ends the use of the output. Nothing is written to it any more when this returns, unless a write is stuck for `wait`.
    pub(super) fn retire(&self, wait: Duration) {
        self.retired.store(true, Ordering::Relaxed);
        // Who takes the lock later sees the store.
        drop(self.torn.try_lock_for(wait));
    }

    /// How it went, and how many bytes were written.
    fn write_all(&self, bytes: &[u8], deadline: Instant) -> (Written, usize) {
        let mut done = 0;
        while done < bytes.len() {
            if self.retired.load(Ordering::Relaxed) {
                return (Written::Retired, done);
            }
            match self.has_room() {
                Ok(false) if Instant::now() < deadline => continue,
                Ok(true) => {}
                Ok(false) | Err(_) => return (Written::Failed, done),
            }
            match self.write_some(&bytes[done..]) {
                Ok(0) => return (Written::Failed, done),
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return (Written::Failed, done),
            }
        }
        (Written::Whole, done)
    }

    /// Waits for room for a moment. The descriptor may be a blocking one and is not made another: the host shares it.
    fn has_room(&self) -> io::Result<bool> {
        let mut waiting = [PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::OUT)];
        let moment = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        match poll(&mut waiting, Some(&moment)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let found = waiting[0].revents();
        if found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(found.contains(PollFlags::OUT))
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.socket {
            // A socket has room for some bytes, not for all: a plain write could wait for the rest.
            return SockRef::from(&self.fd).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        }
        Ok(rustix::io::write(&self.fd, bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn a_full_pipe_costs_a_line_and_little_time_and_works_again_when_read() {
        let (reader, writer) = pipe().unwrap();
        let output = Output::new(writer).unwrap();
        let line = vec![b'x'; 4096];
        let mut count = 0;
        while output.write(&line) == Written::Whole {
            count += 1;
        }
        let start = Instant::now();
        assert_eq!(output.write(&line), Written::Failed);
        assert!(start.elapsed() < Duration::from_secs(2));
        let mut read = vec![0; count * line.len()];
        std::fs::File::from(reader.try_clone().unwrap()).read_exact(&mut read).unwrap();
        assert_eq!(output.write(b"again\n"), Written::Whole);
        let mut read = [0; 6];
        std::fs::File::from(reader).read_exact(&mut read).unwrap();
        assert_eq!(&read, b"again\n");
    }

    #[test]
    fn an_output_whose_reader_is_gone_fails_at_once() {
        let (reader, writer) = pipe().unwrap();
        let output = Output::new(writer).unwrap();
        drop(reader);
        assert_eq!(output.write(b"a\n"), Written::Failed);
        let (near, far) = UnixStream::pair().unwrap();
        let output = Output::new(near.into()).unwrap();
        drop(far);
        assert_eq!(output.write(b"a\n"), Written::Failed);
    }

    #[test]
    fn a_line_cut_off_by_a_full_socket_is_ended_before_the_next() {
        let (near, mut far) = UnixStream::pair().unwrap();
        SockRef::from(&near).set_send_buffer_size(4096).unwrap();
        let output = Output::new(near.into()).unwrap();
        let mut line = vec![b'x'; 4095];
        line.push(b'\n');
        let mut whole = 0;
        while output.write(&line) == Written::Whole {
            whole += 1;
            assert!(whole < 10_000);
        }
        let read = std::thread::spawn(move || {
            let mut text = Vec::new();
            far.read_to_end(&mut text).map(|_| text)
        });
        while output.write(b"next\n") != Written::Whole {}
        drop(output);
        let text = String::from_utf8(read.join().unwrap().unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.last(), Some(&"next"));
        assert_eq!(lines.iter().filter(|l| l.len() == 4095).count(), whole);
        assert!(lines.iter().all(|l| *l == "next" || l.bytes().all(|b| b == b'x')));
        assert!(text.ends_with("\nnext\n"));
    }

    #[test]
    fn a_retired_output_is_not_written_any_more() {
        let (_reader, writer) = pipe().unwrap();
        let output = Output::new(writer).unwrap();
        output.retire(Duration::from_secs(1));
        assert_eq!(output.write(b"a\n"), Written::Retired);
    }

    #[test]
    fn what_can_not_be_written_is_refused() {
        let (reader, _writer) = pipe().unwrap();
        let error = Output::new(reader).err().unwrap();
        assert_eq!(error.status, Status::InvalidArgument);
        assert_eq!(error.message, "log output is not open for writing");
    }
}
