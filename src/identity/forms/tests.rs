use libp2p::{PeerId, identity::KeyType};

use super::*;

/// What openssl made, and the public keys that it derives from them: Ed25519's own 32 bytes, the points of the others.
const OPENSSL: [(&str, KeyType, &str); 4] = [
    (
        include_str!("../vectors/ed25519.pem"),
        KeyType::Ed25519,
        "64ade3537e75bfb2444ad11e39f43d057f155811966e3b01c7b52ac7febe4931",
    ),
    (
        include_str!("../vectors/p256.pem"),
        KeyType::Ecdsa,
        "047a0e1d265433a9c9bbf3ecb89adfba9c19945c8dea4fb028d0cf792247a4ec250770a0cdf18658c13d5cb97bde2659b4277908bec8e179d9c233\
         ca45c294cb7d",
    ),
    (
        include_str!("../vectors/secp256k1.pem"),
        KeyType::Secp256k1,
        "0469a707c7581d649b660f1e62431131069de2872882bdc2bf27ed17e10247272f7bd9061449cd68a041b687edd6efa2cbe3904c4f2eb94b4782d6\
         fd5c9dbd8f6a",
    ),
    (
        include_str!("../vectors/rsa.pem"),
        KeyType::RSA,
        "e4a82dbb1304d260647ba9afa975dfed68ba5aef890d28afeb1220e2168a57c5ee723c57a09296e559816d07e6e8fa52718cd650a9d7ef53c920da\
         35450203010001",
    ),
];

const CONFIG: &str = include_str!("../vectors/kubo-config.json");

#[track_caller]
fn decoded(bytes: &[u8]) -> PrivateKey {
    PrivateKey::decode(bytes).unwrap_or_else(|why| panic!("{why}"))
}

fn peer(key: &PrivateKey) -> PeerId {
    key.keypair.public().to_peer_id()
}

fn refusal(bytes: &[u8]) -> String {
    PrivateKey::decode(bytes).err().unwrap()
}

#[test]
fn keys_that_openssl_made_are_the_same_here() {
    for (pem, kind, wanted) in OPENSSL {
        let key = decoded(pem.as_bytes());
        let public = key.keypair.public();
        assert_eq!(public.key_type(), kind);
        let bytes = match kind {
            KeyType::Ed25519 => public.try_into_ed25519().unwrap().to_bytes().to_vec(),
            KeyType::Ecdsa => public.try_into_ecdsa().unwrap().to_bytes(),
            KeyType::Secp256k1 => public.try_into_secp256k1().unwrap().to_bytes_uncompressed().to_vec(),
            KeyType::RSA => public.try_into_rsa().unwrap().encode_x509(),
        };
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(hex.ends_with(wanted), "{kind:?}: {hex}");
        // And what is written is what openssl has written, byte for byte.
        assert_eq!(key.encode(Form::Pkcs8).unwrap(), pem.as_bytes(), "{kind:?}");
    }
}

#[test]
fn the_key_of_kubos_configuration_is_read_from_it() {
    let key = decoded(CONFIG.as_bytes());
    assert_eq!(peer(&key).to_string(), "QmVz5Nb7j5wkVQ3bmokjbN3J7KNQ6ABjYyBZD7v9VtSaTv");
    let compact: String = CONFIG.split_whitespace().collect();
    assert_eq!(peer(&decoded(compact.as_bytes())), peer(&key));
    let base64 = String::from_utf8(key.encode(Form::Base64).unwrap()).unwrap();
    assert!(CONFIG.contains(&format!("\"PrivKey\": \"{}\"", base64.trim_end())), "Kubo writes it otherwise");
}

#[test]
fn a_key_goes_through_every_form_and_comes_back_the_same() {
    let generated = [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa()];
    let generated = generated.iter().map(|keypair| PrivateKey::from_keypair(keypair).unwrap());
    for key in generated.chain(OPENSSL.map(|(pem, ..)| decoded(pem.as_bytes()))) {
        let protobuf = key.encode(Form::Protobuf).unwrap();
        assert_eq!(Keypair::from_protobuf_encoding(&protobuf).unwrap().public(), key.keypair.public());
        for (name, form) in Form::ALL {
            let written = key.encode(form).unwrap();
            let read = decoded(&written);
            assert_eq!(peer(&read), peer(&key), "{name}");
            assert_eq!(read.encode(Form::Protobuf).unwrap(), protobuf, "{name}");
            assert_eq!(read.encode(form).unwrap(), written, "{name}");
        }
        // Lines of base64, and ends of lines as Windows has them.
        let base64 = String::from_utf8(key.encode(Form::Base64).unwrap()).unwrap();
        let (start, end) = base64.split_at(40);
        assert_eq!(peer(&decoded(format!("{start}\r\n{end}\r\n").as_bytes())), peer(&key));
        let pem = String::from_utf8(key.encode(Form::Pkcs8).unwrap()).unwrap();
        assert_eq!(peer(&decoded(pem.replace('\n', "\r\n").as_bytes())), peer(&key));
    }
}

#[test]
fn what_is_no_key_is_refused_with_what_would_be_right() {
    let convert = "; openssl pkcs8 -topk8 -nocrypt -in FILE -out OTHER makes one that can be used";
    let known = "it has RSA, Ed25519, and ECDSA with the curves P-256 and secp256k1";
    let [(good, ..), ..] = OPENSSL;
    let damaged = good.replace("MC4", "MC5");
    let label = |name: &str| good.replace("PRIVATE KEY", name);
    for (text, why) in [
        (String::new(), "is empty; remove it to have a new key made".to_owned()),
        ("\n \n".into(), "is empty; remove it to have a new key made".into()),
        (label("ENCRYPTED PRIVATE KEY"), format!("is a PEM file whose key is encrypted with a password{convert}")),
        (label("RSA PRIVATE KEY"), format!("is a PEM file of an older form than PKCS #8 ('PRIVATE KEY'){convert}")),
        (label("EC PRIVATE KEY"), format!("is a PEM file of an older form than PKCS #8 ('PRIVATE KEY'){convert}")),
        (
            label("OPENSSH PRIVATE KEY"),
            "is a PEM file, but not of a private key that can be used: it has to say 'PRIVATE KEY' (PKCS #8, not encrypted)"
                .into(),
        ),
        (
            label("PUBLIC KEY"),
            "is a PEM file, but not of a private key that can be used: it has to say 'PRIVATE KEY' (PKCS #8, not encrypted)"
                .into(),
        ),
        (damaged, "is a PEM file that is damaged; it was left as it is".into()),
        (good[..60].into(), "is a PEM file that is damaged; it was left as it is".into()),
        (
            include_str!("../vectors/p384.pem").into(),
            format!("is a PEM file with a key of a curve that libp2p does not have; {known}"),
        ),
        (
            include_str!("../vectors/x25519.pem").into(),
            format!("is a PEM file with a key of a kind that libp2p does not have; {known}"),
        ),
        ("{}".into(), "is a JSON file, but not Kubo's configuration: it has no Identity.PrivKey".into()),
        (
            "{\"Identity\":{\"PeerID\":\"Qm\"}}".into(),
            "is a JSON file, but not Kubo's configuration: it has no Identity.PrivKey".into(),
        ),
        (
            "{\"Identity\":{\"PrivKey\":\"CAESQA==\"}}".into(),
            "is a JSON file whose Identity.PrivKey is damaged or not a libp2p private key".into(),
        ),
        ("CAESQA==\n".into(), "is text, but not a libp2p private key in base64; it was left as it is".into()),
        (
            "/key/swarm/psk/1.0.0/\n/base16/\n".into(),
            "is the key of a private network, not a private key; it belongs into option swarm.key".into(),
        ),
        ("secret words".into(), "is damaged or not a libp2p private key; it was left as it is".into()),
    ] {
        assert_eq!(refusal(text.as_bytes()), why, "{text}");
    }
}

#[test]
fn no_refusal_shows_anything_of_a_damaged_key() {
    for (pem, ..) in OPENSSL {
        for form in Form::ALL.map(|(_, form)| decoded(pem.as_bytes()).encode(form).unwrap()) {
            for at in (0..form.len()).step_by(7) {
                let mut damaged = form.clone();
                damaged[at] ^= 0x15;
                let Err(why) = PrivateKey::decode(&damaged) else { continue };
                let lines = form.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-----"));
                let mut parts = lines.flat_map(|line| line.windows(6));
                assert!(!parts.any(|part| why.as_bytes().windows(6).any(|told| told == part)), "{why}");
            }
        }
    }
}

#[test]
fn a_format_that_does_not_exist_is_answered_with_those_that_do() {
    let error = Form::parse("jwk").unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert_eq!(error.message, "format 'jwk' is not one of libp2p-protobuf-cleartext, pem-pkcs8-cleartext, base64");
    for (name, form) in Form::ALL {
        assert_eq!(Form::parse(name).unwrap(), form);
    }
}
