//! Bodies that a real server would not send: half ones, endless ones, huge ones, bombs. A body holds its request's
//! `Flight`, so that the request is in flight until the last byte is handed on.

use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::log::Flight;

/// Spaces: padding that JSON allows anywhere.
static SPACES: [u8; 16 * 1024] = [b' '; 16 * 1024];

/// Between two chunks of an endless body: enough to outrun a limit of some MiB within a poll's time-out, little
/// enough to cost no processor time.
const ENDLESS_PAUSE: Duration = Duration::from_millis(10);

/// Until the connection is cut after half a body: the first half is on its way by then.
const HALF_PAUSE: Duration = Duration::from_millis(20);

/// What is sent.
pub(super) enum Content {
    /// These bytes.
    Whole(Bytes),
    /// The first half of these bytes, under the length of all.
    Half(Bytes),
    /// An array of spaces, that many bytes in all.
    Padded(u64),
    /// An array of spaces that never ends.
    Endless,
}

enum State {
    Whole(Bytes),
    /// What is left to send, and how much is missing then.
    Half(Bytes, u64),
    /// Bytes to come, the closing bracket included.
    Padded(u64, u64),
    Endless,
}

/// The body of one answer.
pub(super) struct AnswerBody {
    state: State,
    pause: Pin<Box<Sleep>>,
    begun: bool,
    _flight: Option<Flight>,
}

impl AnswerBody {
    pub(super) fn new(content: Content, flight: Option<Flight>) -> Self {
        let (state, pause) = match content {
            Content::Whole(bytes) => (State::Whole(bytes), Duration::ZERO),
            Content::Half(bytes) => {
                let half = bytes.slice(..bytes.len() / 2);
                let missing = (bytes.len() - half.len()) as u64;
                (State::Half(half, missing), HALF_PAUSE)
            }
            Content::Padded(length) => (State::Padded(length.max(2), length.max(2)), Duration::ZERO),
            Content::Endless => (State::Endless, ENDLESS_PAUSE),
        };
        Self { state, pause: Box::pin(tokio::time::sleep(pause)), begun: false, _flight: flight }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let first = !std::mem::replace(&mut this.begun, true);
        let chunk = match &mut this.state {
            State::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            State::Whole(bytes) => std::mem::take(bytes),
            State::Half(half, _) if half.is_empty() => {
                ready!(this.pause.as_mut().poll(context));
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
            State::Half(half, _) => std::mem::take(half),
            State::Padded(0, _) => return Poll::Ready(None),
            State::Padded(left, _) => {
                let (chunk, length) = match (first, *left) {
                    (true, _) => (Bytes::from_static(b"["), 1),
                    (false, 1) => (Bytes::from_static(b"]"), 1),
                    (false, left) => {
                        let length = (left - 1).min(SPACES.len() as u64);
                        let end = usize::try_from(length).unwrap_or(SPACES.len());
                        (Bytes::from_static(&SPACES).slice(..end), length)
                    }
                };
                *left -= length;
                chunk
            }
            State::Endless if first => Bytes::from_static(b"["),
            State::Endless => {
                ready!(this.pause.as_mut().poll(context));
                let next = tokio::time::Instant::now() + ENDLESS_PAUSE;
                this.pause.as_mut().reset(next);
                Bytes::from_static(&SPACES)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Whole(bytes) => bytes.is_empty(),
            State::Padded(left, _) => *left == 0,
            State::Half(..) | State::Endless => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            State::Half(half, missing) => SizeHint::with_exact(half.len() as u64 + missing),
            State::Padded(_, length) => SizeHint::with_exact(*length),
            State::Endless => SizeHint::default(),
        }
    }
}

/// How much a bomb becomes.
pub(super) const BOMB_MIB: u32 = 256;

/// A gzip document of an array of 256 MiB of spaces. One MiB is compressed once and repeated: every part ends with a
/// full flush, after which the compressor refers to nothing before it.
pub(super) fn gzip_bomb() -> Bytes {
    static BOMB: OnceLock<Bytes> = OnceLock::new();
    BOMB.get_or_init(make_bomb).clone()
}

fn make_bomb() -> Bytes {
    let mib = vec![b' '; 1024 * 1024];
    let parts = [(b"[".as_slice(), 1), (mib.as_slice(), BOMB_MIB), (b"]".as_slice(), 1)];
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut sum = Crc::new();
    for (part, times) in parts {
        let mut part_sum = Crc::new();
        part_sum.update(part);
        let deflated = deflate(part);
        for _ in 0..times {
            bomb.extend_from_slice(&deflated);
            sum.combine(&part_sum);
        }
    }
    // The last block of a deflate stream: stored, empty.
    bomb.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    bomb.extend_from_slice(&sum.sum().to_le_bytes());
    bomb.extend_from_slice(&sum.amount().to_le_bytes());
    Bytes::from(bomb)
}

fn deflate(part: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut deflated = Vec::with_capacity(64 * 1024);
    // Memory to memory with room to spare: the compressor has no error to report.
    let _ = compress.compress_vec(part, &mut deflated, FlushCompress::Full);
    deflated
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_bomb_is_small_and_gzip_makes_an_array_of_256_mib_of_it() {
        let bomb = gzip_bomb();
        assert!(bomb.len() < 4 * 1024 * 1024, "{} bytes", bomb.len());
        let mut unpacked = flate2::read::GzDecoder::new(&bomb[..]);
        let mut chunk = vec![0; 1024 * 1024];
        let (mut length, mut last) = (0, 0);
        loop {
            // The decoder compares the check sum at the end.
            let read = unpacked.read(&mut chunk).unwrap();
            if read == 0 {
                break;
            }
            if length == 0 {
                assert_eq!(chunk[0], b'[');
            }
            length += read;
            last = chunk[read - 1];
        }
        assert_eq!((length, last), (BOMB_MIB as usize * 1024 * 1024 + 2, b']'));
    }
}
