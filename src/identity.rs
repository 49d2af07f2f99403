//! The node's key: who it is on the network. A file of it is made in libp2p's protobuf form (libp2p specs, peer-ids, "Keys"), and
//! read in all of [`forms`].

pub mod forms;

use std::{fmt, path::Path};

use libp2p::{PeerId, identity::Keypair};

use self::forms::{Form, PrivateKey};
use crate::{
    error::{Error, Result, Status},
    secret::SecretFile,
};

/// Kubo's configuration has less than a tenth of this, and every key less than that.
const MAX_FILE: u64 = 128 * 1024;
const LARGER: &str = "a libp2p private key";

/// A private key and the peer id that follows from it. Its `Debug` form is the peer id alone.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    peer_id: PeerId,
}

impl Identity {
    /// A new Ed25519 key.
    pub fn generate() -> Self {
        Self::from(Keypair::generate_ed25519())
    }

    /// The key in the file `path`, which is made with a new key, for its owner alone (mode 0600), if there is none.
    ///
    /// A file appears complete or not at all, and one that is there is never changed: of several processes that make
    /// one at once, all get the same key. Fails with [`Status::BadKey`].
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let file = SecretFile::new("key file", path)?;
        if let Some(identity) = Self::load(file)? {
            return Ok(identity);
        }
        match Self::create(file)? {
            Some(identity) => Ok(identity),
            None => {
                Self::load(file)?.ok_or_else(|| file.bad("was made and removed again by another process; try again"))
            }
        }
    }

    pub fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// `None` if there is no such file.
    fn load(file: SecretFile<'_>) -> Result<Option<Self>> {
        let Some(bytes) = file.read(MAX_FILE, LARGER)? else { return Ok(None) };
        match PrivateKey::decode(&bytes) {
            Ok(key) => Ok(Some(Self::from(key.keypair))),
            Err(why) => Err(file.bad(why)),
        }
    }

    /// `None` if another process was first.
    fn create(file: SecretFile<'_>) -> Result<Option<Self>> {
        let identity = Self::generate();
        let bytes = identity
            .keypair
            .to_protobuf_encoding()
            .map_err(|e| Error::new(Status::Internal, format!("a new key can not be encoded: {e}")))?;
        Ok(file.create(&bytes)?.then_some(identity))
    }
}

impl From<Keypair> for Identity {
    fn from(keypair: Keypair) -> Self {
        let peer_id = keypair.public().to_peer_id();
        Identity { keypair, peer_id }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.peer_id).finish()
    }
}

/// Writes the key of the file `from` to the new file `to`, for its owner alone. Fails with [`Status::BadKey`].
pub fn export(from: &Path, form: Form, to: &Path) -> Result<()> {
    let (source, target) = (SecretFile::new("key file", from)?, SecretFile::new("key file", to)?);
    let bytes = source.read(MAX_FILE, LARGER)?.ok_or_else(|| source.bad("does not exist"))?;
    let key = PrivateKey::decode(&bytes).map_err(|why| source.bad(why))?;
    match target.create(&key.encode(form)?)? {
        true => Ok(()),
        false => Err(target.bad("exists already, and none is ever overwritten; name another one")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::PathBuf,
    };

    use super::*;

    fn refusal(path: &Path) -> Error {
        let before = fs::read(path).ok();
        let error = Identity::load_or_create(path).unwrap_err();
        assert_eq!(error.status, Status::BadKey);
        assert_eq!(fs::read(path).ok(), before, "the file was changed");
        error
    }

    fn file(folder: &Path, bytes: &[u8]) -> PathBuf {
        let path = folder.join("key");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_key_is_made_for_its_owner_alone_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(Identity::load_or_create(&path).unwrap().peer_id(), made.peer_id());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
        let stored = Keypair::from_protobuf_encoding(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(stored.public().to_peer_id(), made.peer_id());
        assert_ne!(Identity::generate().peer_id(), made.peer_id());
    }

    #[test]
    fn a_file_name_without_a_folder_is_in_the_current_one() {
        // Only that the folder is found: nothing is made, because the name is taken by a folder.
        assert!(Identity::load_or_create(Path::new("src")).unwrap_err().message.contains("'src' is a folder"));
    }

    #[test]
    fn processes_that_make_a_key_at_once_get_the_same_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let start = std::sync::Barrier::new(8);
        let peers: Vec<PeerId> = std::thread::scope(|scope| {
            let made = |_| {
                scope.spawn(|| {
                    start.wait();
                    Identity::load_or_create(&path).unwrap().peer_id()
                })
            };
            let threads: Vec<_> = (0..8).map(made).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(peers.iter().all(|peer| *peer == peers[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_key_libp2p_can_load_is_accepted() {
        for keypair in [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa()] {
            let folder = tempfile::tempdir().unwrap();
            let path = file(folder.path(), &keypair.to_protobuf_encoding().unwrap());
            assert_eq!(Identity::load_or_create(&path).unwrap().peer_id(), keypair.public().to_peer_id());
        }
    }

    #[test]
    fn files_that_are_no_key_are_refused_and_left_alone() {
        let good = Identity::generate().keypair.to_protobuf_encoding().unwrap();
        let mut flipped = good.clone();
        flipped[20] ^= 1;
        let damaged = "is damaged or not a libp2p private key; it was left as it is";
        let public = Identity::generate().keypair.public().encode_protobuf();
        for (bytes, why) in [
            (&b""[..], "is empty; remove it to have a new key made"),
            (b" \n", "is empty; remove it to have a new key made"),
            (&good[..good.len() - 1], damaged),
            (&flipped, damaged),
            (&public, damaged),
            (&[0xff; 68], damaged),
            (&[0; 128 * 1024 + 1], "is larger than 131072 bytes and so not a libp2p private key"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = file(folder.path(), bytes);
            assert_eq!(refusal(&path).message, format!("key file '{}' {why}", path.display()));
        }
    }

    #[test]
    fn a_key_is_exported_to_a_new_file_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let made = Identity::load_or_create(&at("key")).unwrap();
        for (name, form) in Form::ALL {
            export(&at("key"), form, &at(name)).unwrap();
            assert_eq!(fs::metadata(at(name)).unwrap().mode() & 0o7777, 0o600);
            assert_eq!(Identity::load_or_create(&at(name)).unwrap().peer_id(), made.peer_id());
        }
        assert_eq!(fs::read(at("key")).unwrap(), fs::read(at("libp2p-protobuf-cleartext")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "a temporary file was left");
        let refused = |from: &str, to: &str| {
            let error = export(&at(from), Form::Base64, &at(to)).unwrap_err();
            assert_eq!(error.status, Status::BadKey);
            error.message.replace(folder.path().to_str().unwrap(), "")
        };
        let before = fs::read(at("key")).unwrap();
        assert_eq!(
            refused("base64", "key"),
            "key file '/key' exists already, and none is ever overwritten; name another one"
        );
        assert_eq!(fs::read(at("key")).unwrap(), before);
        assert_eq!(refused("nowhere", "new"), "key file '/nowhere' does not exist");
        assert_eq!(
            refused("key", "none/new"),
            "key file '/none/new' can not be made: its folder '/none' does not exist"
        );
        fs::write(at("broken"), "").unwrap();
        fs::set_permissions(at("broken"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(refused("broken", "new"), "key file '/broken' is empty; remove it to have a new key made");
        assert!(!at("nowhere").exists() && !at("new").exists());
    }

    #[test]
    fn files_that_others_can_use_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), &Identity::generate().keypair.to_protobuf_encoding().unwrap());
        for mode in [0o644, 0o640, 0o602, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let name = path.display();
            assert_eq!(
                refusal(&path).message,
                format!(
                    "key file '{name}' can be used by others (mode {mode:04o}); allow only its owner: chmod 600 {name}"
                )
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        Identity::load_or_create(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let named = |path: &Path, why: &str| format!("key file '{}' {why}", path.display());
        assert_eq!(refusal(folder.path()).message, named(folder.path(), "is a folder; write the path of a file in it"));
        assert_eq!(refusal(Path::new("/dev/null")).message, "key file '/dev/null' is not a regular file");
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
        let dangling = at("dangling");
        assert_eq!(refusal(&dangling).message, named(&dangling, "is a symbolic link to a file that does not exist"));
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        let error = refusal(&at("loop"));
        assert_eq!(error.system_error, rustix::io::Errno::LOOP.raw_os_error());
        assert!(error.message.starts_with(&named(&at("loop"), "can not be opened: ")), "{error}");
        let missing = at("missing").join("key");
        let error = refusal(&missing);
        assert_eq!(error.system_error, rustix::io::Errno::NOENT.raw_os_error());
        let why = format!("can not be made: its folder '{}' does not exist", at("missing").display());
        assert_eq!(error.message, named(&missing, &why));
        let below = file(folder.path(), b"").join("key");
        let error = refusal(&below);
        assert_eq!(error.system_error, rustix::io::Errno::NOTDIR.raw_os_error());
        assert_eq!(refusal(Path::new("")).message, "key file has an empty name; write the path of a file");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_refused_with_the_systems_number() {
        if rustix::process::geteuid().is_root() {
            return; // Root may read everything.
        }
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), b"");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        assert_eq!((error.status, error.system_error), (Status::BadKey, rustix::io::Errno::ACCESS.raw_os_error()));
    }

    #[test]
    fn a_key_never_shows_in_its_debug_form() {
        let identity = Identity::generate();
        assert_eq!(format!("{identity:?}"), format!("Identity({:?})", identity.peer_id()));
    }
}
