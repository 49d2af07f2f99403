//! Private networks (libp2p specs, `pnet/Private-Networks-PSK-V1.md`): what goes over a connection is encrypted once more with a
//! key that all nodes of the network have, so that nobody else gets as far as saying hello.

use std::{
    io::{self, IoSlice, IoSliceMut},
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{AsyncRead, AsyncWrite, future::Either};
use libp2p::pnet::{PnetConfig, PnetError, PnetOutput, PreSharedKey};

use crate::{
    error::{Error, Result, Status},
    options::{Source, Values},
    secret::SecretFile,
};

const VERSION: &str = "/key/swarm/psk/1.0.0/";
const SIZE: usize = 32;
/// Far more than the longest form of a key has.
const MAX_FILE: u64 = 1024;

/// What comes first on every connection, in both directions, once encryption for the private network is taken off
/// (multiformats' multistream-select 1.0).
const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";

/// Why QUIC is not there; continues a sentence.
pub const NO_QUIC: &str = "QUIC cannot carry the private network of option swarm.key";

/// The key of the private network that the node is in, if it is in one. Takes QUIC from the transports that are the default, and
/// refuses it where it was asked for.
pub fn network_key(options: &mut Values) -> Result<Option<PreSharedKey>> {
    let path = options.text("swarm.key");
    if path.is_empty() {
        return Ok(None);
    }
    let key = load(path.as_ref())?;
    let (transports, source) = options.get("transports")?;
    if source == Source::Default {
        let rest: Vec<_> = transports.split(',').filter(|name| *name != "quic").collect();
        options.adapt("transports", &rest.join(","))?;
    } else if transports.split(',').any(|name| name == "quic") {
        return Err(Error::new(
            Status::BadOption,
            format!("option transports: '{transports}' has quic, but {NO_QUIC}; leave out one of the two"),
        ));
    }
    Ok(Some(key))
}

/// Reads a file of the form of Kubo's `swarm.key`. Fails with [`Status::BadKey`].
fn load(path: &Path) -> Result<PreSharedKey> {
    let file = SecretFile::new("swarm key file", path)?;
    let bytes = file.read(MAX_FILE, "the key of a private network")?;
    let bytes = bytes.ok_or_else(|| file.bad("does not exist; copy that of the network's other nodes"))?;
    parse(&bytes).map(PreSharedKey::new).map_err(|why| file.bad(why))
}

/// The error continues a sentence, without anything of what was read.
fn parse(bytes: &[u8]) -> Result<[u8; SIZE], String> {
    if bytes.trim_ascii().is_empty() {
        return Err("is empty; copy that of the network's other nodes".into());
    }
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let mut header = || lines.next().unwrap_or_default().trim_ascii_end();
    if header() != VERSION.as_bytes() {
        return Err(format!("does not begin with the line {VERSION} and so is not the key of a private network"));
    }
    let encoding = header();
    let rest = lines.next().unwrap_or_default();
    let (key, wanted) = match encoding {
        b"/base16/" => (base16(rest.trim_ascii()), "64 hexadecimal digits"),
        b"/base64/" => (BASE64_STANDARD.decode(rest.trim_ascii()).ok(), "32 bytes in base64"),
        // A byte of the key may look like the end of a line.
        b"/bin/" => {
            (Some(rest.strip_suffix(b"\n").filter(|key| key.len() == SIZE).unwrap_or(rest).to_vec()), "32 bytes")
        }
        _ => return Err("has a second line that is not /base16/, /base64/ or /bin/".into()),
    };
    let key = key.and_then(|key| key.try_into().ok());
    key.ok_or_else(|| format!("is damaged: what follows its second line is not {wanted}"))
}

fn base16(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// A connection on which both ends are known to be of the same network.
pub type Admitted<C> = Either<Opening<C>, Opening<PnetOutput<Opening<C>>>>;

/// Begins to speak on a connection: with a key, encrypted for its network.
pub async fn admit<C>(socket: C, key: Option<PreSharedKey>) -> io::Result<Admitted<C>>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(key) = key else { return Ok(Either::Left(Opening::new(socket, Kind::Public))) };
    let admitted = PnetConfig::new(key).handshake(Opening::new(socket, Kind::Nonce)).await;
    match admitted {
        Ok(socket) => Ok(Either::Right(Opening::new(socket, Kind::Private))),
        Err(PnetError::HandshakeError(error) | PnetError::IoError(error)) => Err(error),
    }
}

/// What is read first.
#[derive(Clone, Copy)]
enum Kind {
    /// A node without a key reads from another one.
    Public,
    /// A node with a key reads the number that the other one's encryption begins with.
    Nonce,
    /// A node with a key has taken the encryption off.
    Private,
}

/// Watches how a connection begins, so that a node of another network is told from other failures, and at once: to the
/// protocols above it looks like one that is about to say more.
pub struct Opening<C> {
    inner: C,
    kind: Kind,
    /// How much of [`HELLO`] has come.
    seen: usize,
}

impl<C> Opening<C> {
    fn new(inner: C, kind: Kind) -> Self {
        Opening { inner, kind, seen: 0 }
    }

    /// Looks at what came.
    fn check(&mut self, read: &io::Result<usize>, buffer: &[u8]) -> io::Result<()> {
        let told = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
        let came = match read {
            Ok(0) if buffer.is_empty() || self.seen > 0 => return Ok(()),
            Ok(0) => return Err(self.silence()),
            Ok(size) => &buffer[..*size],
            Err(error) if is_reset(error) && self.seen == 0 => return Err(self.silence()),
            Err(_) => return Ok(()),
        };
        let size = came.len().min(HELLO.len() - self.seen);
        let same = came[..size] == HELLO[self.seen..][..size];
        self.seen = if same { self.seen + size } else { HELLO.len() };
        match self.kind {
            Kind::Public if !same => told(
                "what answers there does not speak libp2p, or is of a private network, whose key option swarm.key would give",
            ),
            Kind::Private if !same => {
                told("the peer has another private network key than this node (option swarm.key)")
            }
            Kind::Nonce if same && self.seen == HELLO.len() => {
                told("the peer has no private network key, and this node has one (option swarm.key)")
            }
            _ => Ok(()),
        }
    }

    /// What the end of the connection means while nothing has come. A peer that hangs up with something unread resets the
    /// connection, and whoever writes or reads next is the one to see it.
    fn silence(&self) -> io::Error {
        let why = match self.kind {
            Kind::Public => {
                "the peer closed the connection without a word; it may speak no libp2p at this port, have no room, or be of a \
                 private network (option swarm.key)"
            }
            Kind::Nonce | Kind::Private => {
                "the peer closed the connection without a word; it may not have this node's private network key (option \
                 swarm.key), or have another"
            }
        };
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    /// What writing has come to.
    fn written<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        result.map_err(|error| match is_reset(&error) && self.seen == 0 {
            true => self.silence(),
            false => error,
        })
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl<C: AsyncRead + Unpin> AsyncRead for Opening<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        if self.seen < HELLO.len() {
            self.check(&read, buffer)?;
        }
        Poll::Ready(read)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.seen == HELLO.len() {
            return Pin::new(&mut self.inner).poll_read_vectored(cx, buffers);
        }
        match buffers.iter_mut().find(|buffer| !buffer.is_empty()) {
            Some(buffer) => self.poll_read(cx, buffer),
            None => Poll::Ready(Ok(0)),
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Opening<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.written(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.written(result)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

    fn key() -> Vec<u8> {
        (0..32).collect()
    }

    #[test]
    fn every_form_that_kubo_takes_is_read() {
        let base64 = BASE64_STANDARD.encode(key());
        let bin = [b"/key/swarm/psk/1.0.0/\n/bin/\n", &key()[..]].concat();
        for form in [
            format!("/key/swarm/psk/1.0.0/\n/base16/\n{HEX}").into_bytes(),
            format!("/key/swarm/psk/1.0.0/\r\n/base16/\r\n{}\r\n", HEX.to_lowercase()).into_bytes(),
            format!("/key/swarm/psk/1.0.0/\n/base64/\n{base64}\n").into_bytes(),
            bin.clone(),
            [&bin[..], b"\n"].concat(),
        ] {
            assert_eq!(parse(&form).unwrap()[..], key(), "{}", String::from_utf8_lossy(&form));
        }
        // One that ends as a line does.
        let newlines = [b"/key/swarm/psk/1.0.0/\n/bin/\n", &[b'\n'; 32][..]].concat();
        assert_eq!(parse(&newlines).unwrap(), [b'\n'; 32]);
    }

    #[test]
    fn a_file_of_another_form_is_refused_without_showing_it() {
        let start = "/key/swarm/psk/1.0.0/\n";
        let digits = "is damaged: what follows its second line is not 64 hexadecimal digits";
        for (text, why) in [
            (String::new(), "is empty; copy that of the network's other nodes"),
            (" \n".into(), "is empty; copy that of the network's other nodes"),
            (
                HEX.into(),
                "does not begin with the line /key/swarm/psk/1.0.0/ and so is not the key of a private network",
            ),
            (
                format!("/key/swarm/psk/2.0.0/\n/base16/\n{HEX}"),
                "does not begin with the line /key/swarm/psk/1.0.0/ and so is not the key of a private network",
            ),
            (start.into(), "has a second line that is not /base16/, /base64/ or /bin/"),
            (format!("{start}{HEX}"), "has a second line that is not /base16/, /base64/ or /bin/"),
            (format!("{start}/base16/\n{}", &HEX[1..]), digits),
            (format!("{start}/base16/\n{}", &HEX[2..]), digits),
            (format!("{start}/base16/\n{HEX}00"), digits),
            (format!("{start}/base16/\n{}", HEX.replace('a', "g")), digits),
            (format!("{start}/base16/\n"), digits),
            (format!("{start}/base64/\n{HEX}"), "is damaged: what follows its second line is not 32 bytes in base64"),
            (format!("{start}/base64/\n?"), "is damaged: what follows its second line is not 32 bytes in base64"),
            (format!("{start}/bin/\n{HEX}"), "is damaged: what follows its second line is not 32 bytes"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), why, "{text}");
        }
    }

    /// A connection that the peer has reset, with something left to read or not.
    struct Reset(&'static [u8]);

    fn reset<T>() -> Poll<io::Result<T>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    impl AsyncRead for Reset {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            if self.0.is_empty() { reset() } else { Pin::new(&mut self.0).poll_read(cx, buffer) }
        }
    }

    impl AsyncWrite for Reset {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            reset()
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            reset()
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            reset()
        }
    }

    #[tokio::test]
    async fn a_reset_before_the_first_word_is_told_to_who_reads_and_to_who_writes() {
        let public = "the peer closed the connection without a word; it may speak no libp2p at this port, have no room, or be \
                      of a private network (option swarm.key)";
        let private = "the peer closed the connection without a word; it may not have this node's private network key \
                       (option swarm.key), or have another";
        for (kind, sentence) in [(Kind::Public, public), (Kind::Nonce, private), (Kind::Private, private)] {
            let silent = || Opening::new(Reset(b""), kind);
            let errors = [
                silent().read(&mut [0; 8]).await.unwrap_err(),
                silent().write(b"hello").await.unwrap_err(),
                silent().write_vectored(&[IoSlice::new(b"hello")]).await.unwrap_err(),
                silent().flush().await.unwrap_err(),
            ];
            assert_eq!(errors.map(|error| error.to_string()), [sentence; 4]);
        }
        // What the peer has said tells what it is, and the reset is only a reset.
        let mut heard = Opening::new(Reset(HELLO), Kind::Private);
        heard.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(heard.write(b"hello").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_file_that_is_not_there_or_can_be_used_by_others_is_refused() {
        use std::{fs, os::unix::fs::PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swarm.key");
        let name = path.display();
        let sentence = || load(&path).unwrap_err().message;
        assert_eq!(
            sentence(),
            format!("swarm key file '{name}' does not exist; copy that of the network's other nodes")
        );
        fs::write(&path, format!("{VERSION}\n/base16/\n{HEX}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(
            sentence(),
            format!(
                "swarm key file '{name}' can be used by others (mode 0640); allow only its owner: chmod 600 {name}"
            )
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load(&path).unwrap(), PreSharedKey::new(key().try_into().unwrap()));
        fs::write(&path, "x".repeat(2000)).unwrap();
        assert_eq!(
            sentence(),
            format!("swarm key file '{name}' is larger than 1024 bytes and so not the key of a private network")
        );
    }
}
