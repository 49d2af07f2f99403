//! The forms in which a private key lies in a file: libp2p's protobuf, base64 of it as in Kubo's configuration, and PKCS #8 in
//! PEM, as `ipfs key export` and `openssl` write it.

use base64::{Engine, prelude::BASE64_STANDARD};
use libp2p::identity::{Keypair, ecdsa, secp256k1};
use pkcs8::{
    AlgorithmIdentifierRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument,
    der::{
        Decode, Encode,
        asn1::{AnyRef, OctetStringRef},
    },
};
use sec1::{EcParameters, EcPrivateKey};

use crate::error::{Error, Result, Status, quote};

/// RFC 8017 appendix A.1
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 8410 section 3
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// RFC 5480 section 2.1.1, with the curve as parameter
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");

/// The label of unencrypted PKCS #8 in PEM (RFC 7468 section 10).
const PEM: &str = "PRIVATE KEY";

/// A form in which a key is exported, named as `ipfs key export --format` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// What `identity.file` is made as, and `ipfs key import` takes.
    Protobuf,
    Pkcs8,
    /// The protobuf in base64, one line: `Identity.PrivKey` of Kubo's configuration.
    Base64,
}

impl Form {
    pub const ALL: [(&'static str, Form); 3] =
        [("libp2p-protobuf-cleartext", Form::Protobuf), ("pem-pkcs8-cleartext", Form::Pkcs8), ("base64", Form::Base64)];

    /// Fails with [`Status::InvalidArgument`].
    pub fn parse(name: &str) -> Result<Self> {
        Form::ALL.iter().find(|(known, _)| *known == name).map(|(_, form)| *form).ok_or_else(|| {
            let names = Form::ALL.map(|(name, _)| name).join(", ");
            Error::new(Status::InvalidArgument, format!("format '{}' is not one of {names}", quote(name)))
        })
    }
}

/// A private key of which more is known than libp2p tells of one: enough to write it in any form.
pub struct PrivateKey {
    pub keypair: Keypair,
    secret: Secret,
}

enum Secret {
    /// RSAPrivateKey in DER (RFC 8017 appendix A.1.2).
    Rsa(Vec<u8>),
    Ed25519([u8; 64]),
    /// Scalar and uncompressed point.
    Secp256k1(Vec<u8>, Vec<u8>),
    P256(Vec<u8>, Vec<u8>),
}

/// Why something is no key: the rest of a sentence, with nothing of the key in it.
pub type Refusal = String;

const DAMAGED: &str = "is damaged or not a libp2p private key; it was left as it is";

impl PrivateKey {
    /// Reads a key in any of the forms.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if let Some(key) = Self::from_protobuf(bytes) {
            return Ok(key);
        }
        let text = bytes.trim_ascii();
        if text.is_empty() {
            return Err("is empty; remove it to have a new key made".into());
        }
        if text.starts_with(b"/key/swarm/psk/") {
            return Err("is the key of a private network, not a private key; it belongs into option swarm.key".into());
        }
        if text.starts_with(b"-----BEGIN") {
            return Self::from_pem(text);
        }
        if text.starts_with(b"{") {
            let base64 =
                configured(text).ok_or("is a JSON file, but not Kubo's configuration: it has no Identity.PrivKey")?;
            let key = BASE64_STANDARD.decode(base64).ok().and_then(|bytes| Self::from_protobuf(&bytes));
            return key
                .ok_or_else(|| "is a JSON file whose Identity.PrivKey is damaged or not a libp2p private key".into());
        }
        let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\n' | b'\r');
        if text.iter().all(base64) {
            let joined: Vec<u8> = text.iter().copied().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
            let key = BASE64_STANDARD.decode(joined).ok().and_then(|bytes| Self::from_protobuf(&bytes));
            return key.ok_or_else(|| "is text, but not a libp2p private key in base64; it was left as it is".into());
        }
        Err(DAMAGED.into())
    }

    pub fn encode(&self, form: Form) -> Result<Vec<u8>> {
        let failed = |_| Error::new(Status::Internal, "the key can not be encoded; this is a defect of the library");
        match form {
            Form::Protobuf => self.protobuf().map_err(failed),
            Form::Base64 => Ok(format!("{}\n", BASE64_STANDARD.encode(self.protobuf().map_err(failed)?)).into_bytes()),
            Form::Pkcs8 => {
                let document = self.pkcs8().map_err(failed)?;
                let text = document.to_pem(PEM, LineEnding::LF).map_err(failed)?;
                Ok(text.as_bytes().to_vec())
            }
        }
    }

    /// libp2p specs, peer-ids, "Keys".
    fn from_protobuf(bytes: &[u8]) -> Option<Self> {
        let keypair = Keypair::from_protobuf_encoding(bytes).ok()?;
        match Self::from_keypair(&keypair) {
            Some(key) => Some(key),
            // The only kind of which libp2p keeps the secret to itself.
            None => Some(PrivateKey { keypair, secret: Secret::Rsa(data(bytes)?.to_vec()) }),
        }
    }

    /// `None` for RSA.
    pub fn from_keypair(keypair: &Keypair) -> Option<Self> {
        let of = |secret| Some(PrivateKey { keypair: keypair.clone(), secret });
        if let Ok(pair) = keypair.clone().try_into_ed25519() {
            return of(Secret::Ed25519(pair.to_bytes()));
        }
        if let Ok(pair) = keypair.clone().try_into_secp256k1() {
            return of(Secret::Secp256k1(
                pair.secret().to_bytes().to_vec(),
                pair.public().to_bytes_uncompressed().to_vec(),
            ));
        }
        let pair = keypair.clone().try_into_ecdsa().ok()?;
        of(Secret::P256(pair.secret().to_bytes(), pair.public().to_bytes()))
    }

    fn from_pem(text: &[u8]) -> Result<Self, Refusal> {
        let refused = |why: &str| {
            Err(format!(
                "is a PEM file {why}; openssl pkcs8 -topk8 -nocrypt -in FILE -out OTHER makes one that can be used"
            ))
        };
        let label = text.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
        let label = label.strip_prefix(b"-----BEGIN ").and_then(|rest| rest.strip_suffix(b"-----"));
        match label {
            Some(b"PRIVATE KEY") => {}
            Some(b"ENCRYPTED PRIVATE KEY") => return refused("whose key is encrypted with a password"),
            Some(b"RSA PRIVATE KEY" | b"EC PRIVATE KEY") => {
                return refused("of an older form than PKCS #8 ('PRIVATE KEY')");
            }
            _ => {
                return Err("is a PEM file, but not of a private key that can be used: it has to say 'PRIVATE KEY' \
                            (PKCS #8, not encrypted)"
                    .into());
            }
        }
        let text = std::str::from_utf8(text).map_err(|_| DAMAGED)?;
        let damaged = "is a PEM file that is damaged; it was left as it is";
        let (_, document) = SecretDocument::from_pem(text).map_err(|_| damaged)?;
        let key = PrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| damaged)?;
        let secret = key.private_key.as_bytes();
        let known = "RSA, Ed25519, and ECDSA with the curves P-256 and secp256k1";
        let keypair = if key.algorithm.oid == RSA {
            let keypair = Keypair::rsa_from_pkcs8(&mut document.as_bytes().to_vec());
            let keypair =
                keypair.map_err(|_| format!("{damaged}, or its RSA key has less than 2048 or more than 4096 bits"))?;
            return Ok(PrivateKey { keypair, secret: Secret::Rsa(secret.to_vec()) });
        } else if key.algorithm.oid == ED25519 {
            let seed = <&OctetStringRef>::from_der(secret).map_err(|_| damaged)?;
            Keypair::ed25519_from_bytes(seed.as_bytes().to_vec()).ok()
        } else if key.algorithm.oid == EC {
            let curve = key.algorithm.parameters_oid().map_err(|_| damaged)?;
            let scalar = EcPrivateKey::from_der(secret).map_err(|_| damaged)?.private_key;
            if curve == P256 {
                ecdsa::SecretKey::try_from_bytes(scalar).ok().map(|key| ecdsa::Keypair::from(key).into())
            } else if curve == SECP256K1 {
                secp256k1::SecretKey::try_from_bytes(&mut scalar.to_vec())
                    .ok()
                    .map(|key| secp256k1::Keypair::from(key).into())
            } else {
                return Err(format!("is a PEM file with a key of a curve that libp2p does not have; it has {known}"));
            }
        } else {
            return Err(format!("is a PEM file with a key of a kind that libp2p does not have; it has {known}"));
        };
        keypair.as_ref().and_then(Self::from_keypair).ok_or_else(|| damaged.into())
    }

    fn protobuf(&self) -> pkcs8::der::Result<Vec<u8>> {
        let (kind, data) = match &self.secret {
            Secret::Rsa(der) => (0, der.clone()),
            Secret::Ed25519(pair) => (1, pair.to_vec()),
            Secret::Secp256k1(scalar, _) => (2, scalar.clone()),
            // Go takes the key only with the name of its curve.
            Secret::P256(scalar, point) => (3, ec_private_key(scalar, point, Some(P256))?),
        };
        let mut message = vec![0x08, kind, 0x12];
        let mut length = data.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend(data);
        Ok(message)
    }

    fn pkcs8(&self) -> pkcs8::der::Result<SecretDocument> {
        let (oid, parameters, secret) = match &self.secret {
            Secret::Rsa(der) => (RSA, Some(AnyRef::NULL), der.clone()),
            Secret::Ed25519(pair) => (ED25519, None, OctetStringRef::new(&pair[..32])?.to_der()?),
            Secret::Secp256k1(scalar, point) => {
                (EC, Some(AnyRef::from(&SECP256K1)), ec_private_key(scalar, point, None)?)
            }
            Secret::P256(scalar, point) => (EC, Some(AnyRef::from(&P256)), ec_private_key(scalar, point, None)?),
        };
        let key = PrivateKeyInfoRef::new(AlgorithmIdentifierRef { oid, parameters }, OctetStringRef::new(&secret)?);
        SecretDocument::encode_msg(&key)
    }
}

/// RFC 5915
fn ec_private_key(scalar: &[u8], point: &[u8], curve: Option<ObjectIdentifier>) -> pkcs8::der::Result<Vec<u8>> {
    let parameters = curve.map(EcParameters::NamedCurve);
    EcPrivateKey { private_key: scalar, parameters, public_key: Some(point) }.to_der()
}

/// The field `Data` of a protobuf private key that has been decoded already.
fn data(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    let mut found = None;
    while let Some((tag, after)) = rest.split_first() {
        let (number, after) = varint(after)?;
        rest = match tag {
            0x08 => after,
            0x12 => {
                let (data, after) = after.split_at_checked(number)?;
                found = Some(data);
                after
            }
            _ => return None,
        };
    }
    found
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

/// The text of `"PrivKey": "..."` within `"Identity"`, which no escape can be in.
fn configured(json: &[u8]) -> Option<&[u8]> {
    let skip = |text: &[u8], name: &[u8]| Some(text.windows(name.len()).position(|part| part == name)? + name.len());
    let identity = &json[skip(json, b"\"Identity\"")?..];
    let rest = &identity[skip(identity, b"\"PrivKey\"")?..];
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = rest.iter().position(|b| *b == b'"')?;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests;
