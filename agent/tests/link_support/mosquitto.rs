//! A real Mosquitto with TLS and client certificates, on a loopback port that the kernel chose.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::pki::Pki;

pub(crate) struct Mosquitto {
    folder: TempDir,
    child: Option<Child>,
    pub(crate) port: u16,
}

impl Mosquitto {
    /// Starts a broker with a good certificate for `localhost`; devices may use the trees of the tests, and not
    /// `forbidden/#`.
    pub(crate) fn start(pki: &Pki) -> Self {
        Self::with(pki, &["localhost"], false)
    }

    /// The same, with a certificate for these hosts.
    pub(crate) fn with(pki: &Pki, hosts: &[&str], expired: bool) -> Self {
        Self::set_up(pki, hosts, expired, "")
    }

    /// The same, with more lines of configuration.
    pub(crate) fn that(pki: &Pki, says: &str) -> Self {
        Self::set_up(pki, &["localhost"], false, says)
    }

    fn set_up(pki: &Pki, hosts: &[&str], expired: bool, says: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = pki.broker(hosts, expired);
        // A line for each tree that the tests use: Mosquitto's `topic` lines are for anonymous clients alone.
        let trees = [
            "sanderling/#",
            "spBv1.0/#",
            "repo/#",
            "data/#",
            "chunk/#",
            "answers/#",
            "blob",
            "flood",
            "log",
            "allowed",
        ];
        let acl: String = trees.iter().map(|tree| format!("pattern readwrite {tree}\n")).collect();
        fs::write(folder.path().join("acl"), acl).unwrap();
        // Between choosing a port and using it another may take it; then the broker ends and the next is tried.
        for _ in 0..10 {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let text = format!(
                "listener {port} 127.0.0.1\nallow_anonymous false\nrequire_certificate true\nuse_identity_as_username true\n\
                 cafile {}\ncertfile {}\nkeyfile {}\nacl_file {}\npersistence false\nlog_dest file {}\nset_tcp_nodelay true\n{says}\n",
                pki.ca().display(),
                cert.display(),
                key.display(),
                folder.path().join("acl").display(),
                folder.path().join("log").display(),
            );
            fs::write(folder.path().join("conf"), text).unwrap();
            if let Some(child) = spawn(folder.path(), port) {
                return Self { folder, child: Some(child), port };
            }
        }
        panic!("mosquitto does not start: {}", fs::read_to_string(folder.path().join("log")).unwrap_or_default());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = Some(spawn(self.folder.path(), self.port).expect("mosquitto starts again"));
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(folder: &Path, port: u16) -> Option<Child> {
    let mut child = Command::new(program())
        .arg("-c")
        .arg(folder.join("conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto is installed (apt-get install mosquitto)");
    for _ in 0..1000 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("mosquitto does not listen");
}

pub(crate) fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("mosquitto"))
        .find(|program| program.is_file())
        .expect("mosquitto is installed (apt-get install mosquitto)")
}
