//! Records of TLS 1.3 (RFC 8446, section 5): sealing and opening, nothing else.

use std::{fmt, io};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use super::outgoing::Outgoing;

/// Content type, version, length.
pub(super) const HEADER: usize = 5;
/// Of every cipher of TLS 1.3 that we offer.
pub(super) const TAG: usize = 16;
/// The most that one record carries.
pub(super) const MAX_PLAIN: usize = 1 << 14;
/// What is encrypted is content, its type, and as much padding as the sender likes.
const MAX_SEALED: usize = MAX_PLAIN + 256;
/// The largest record.
pub(super) const MAX_RECORD: usize = HEADER + MAX_SEALED;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Alert = 21,
    Handshake = 22,
    Data = 23,
}

/// Length of the record that `bytes` begin with, if it is all there.
pub(super) fn length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let sealed = usize::from(u16::from_be_bytes([high, low]));
    if sealed > MAX_SEALED {
        return Err(broken(RECORD_OVERFLOW, "the peer sent a TLS record that is too long"));
    }
    Ok(Some(HEADER + sealed).filter(|length| *length <= bytes.len()))
}

/// What the peer has done wrong, and the alert that tells it (RFC 8446, 6.2).
#[derive(Debug)]
pub(super) struct Broken {
    text: &'static str,
    pub(super) alert: u8,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl std::error::Error for Broken {}

pub(super) const UNEXPECTED_MESSAGE: u8 = 10;
pub(super) const BAD_RECORD_MAC: u8 = 20;
pub(super) const RECORD_OVERFLOW: u8 = 22;
pub(super) const ILLEGAL_PARAMETER: u8 = 47;
pub(super) const DECODE_ERROR: u8 = 50;

pub(super) fn broken(alert: u8, text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Broken { text, alert })
}

/// The key of one direction.
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Key {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> io::Result<Self> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(io::Error::other("TLS has agreed on a cipher that was not offered")),
        };
        let unusable = |_| io::Error::other("TLS has agreed on a key that is none");
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(unusable)?;
        let iv = iv.as_ref().try_into().map_err(|_| io::Error::other("TLS has agreed on a nonce that is none"))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    #[cfg(test)]
    pub(super) fn algorithm(&self) -> &'static aws_lc_rs::aead::Algorithm {
        self.key.algorithm()
    }

    /// Records so far.
    pub(super) fn used(&self) -> u64 {
        self.sequence
    }

    /// The next record's, which is never used again (5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, part) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Appends a record with the content that `parts` are together, at most [`MAX_PLAIN`] bytes: a single part is copied by
    /// nobody.
    pub(super) fn seal<'a, P>(&mut self, content: Content, parts: P, out: &mut Outgoing) -> io::Result<()>
    where
        P: IntoIterator<Item = &'a [u8]>,
        P::IntoIter: Clone,
    {
        let mut parts = parts.into_iter();
        let length: usize = parts.clone().map(<[u8]>::len).sum();
        let kind = [content as u8];
        // At most `MAX_SEALED`.
        let [high, low] = ((length + kind.len() + TAG) as u16).to_be_bytes();
        let header = [Content::Data as u8, 3, 3, high, low];
        let record = HEADER + length + kind.len() + TAG;
        let (head, sealed) = out.append(record).split_at_mut(HEADER);
        let (body, end) = sealed.split_at_mut(length);
        head.copy_from_slice(&header);
        let (nonce, header) = (self.nonce(), Aad::from(header));
        let first = parts.next().unwrap_or_default();
        let result = if first.len() == length {
            self.key.seal_out_of_place_scatter(nonce, header, first, body, &kind, end)
        } else {
            let mut at = 0;
            for part in std::iter::once(first).chain(parts) {
                body[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            self.key.seal_in_place_scatter(nonce, header, body, &kind, end)
        };
        result.map_err(|_| {
            out.take_back(record);
            io::Error::other("a TLS record cannot be sealed")
        })
    }

    /// A record of data with padding behind it.
    #[cfg(test)]
    pub(super) fn seal_padded(&mut self, data: &[u8], padding: usize) -> Vec<u8> {
        let mut plain = [data, &[Content::Data as u8]].concat();
        plain.resize(plain.len() + padding, 0);
        let [high, low] = ((plain.len() + TAG) as u16).to_be_bytes();
        let header = [Content::Data as u8, 3, 3, high, low];
        let nonce = self.nonce();
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut plain).unwrap();
        [&header[..], &plain].concat()
    }

    /// Opens a record into `plain`, which is as long as what is sealed in it without the tag ([`room`]). Returns the length
    /// of the content at its beginning, and what it is.
    pub(super) fn open(&mut self, record: &[u8], plain: &mut [u8]) -> io::Result<(usize, Content)> {
        let (header, sealed) = record.split_at(HEADER);
        if header[0] != Content::Data as u8 {
            return Err(broken(UNEXPECTED_MESSAGE, "the peer sent a TLS record that is not encrypted"));
        }
        let (sealed, tag) = sealed.split_at(sealed.len() - TAG);
        let nonce = self.nonce();
        self.key
            .open_separate_gather(nonce, Aad::from(header), sealed, tag, plain)
            .map_err(|_| broken(BAD_RECORD_MAC, "a TLS record is not what the peer has sealed"))?;
        let Some(end) = plain.iter().rposition(|byte| *byte != 0) else {
            return Err(broken(UNEXPECTED_MESSAGE, "the peer sent a TLS record without a type"));
        };
        let content = match plain[end] {
            21 => Content::Alert,
            22 => Content::Handshake,
            23 => Content::Data,
            _ => return Err(broken(UNEXPECTED_MESSAGE, "the peer sent a TLS record of an unknown type")),
        };
        if plain.len() > MAX_PLAIN + 1 {
            return Err(broken(RECORD_OVERFLOW, "the peer sent a TLS record that is too long"));
        }
        Ok((end, content))
    }
}

/// What [`Key::open`] needs for a whole record.
pub(super) fn room(record: &[u8]) -> io::Result<usize> {
    record
        .len()
        .checked_sub(HEADER + TAG)
        .ok_or_else(|| broken(BAD_RECORD_MAC, "the peer sent a TLS record that is too short"))
}
