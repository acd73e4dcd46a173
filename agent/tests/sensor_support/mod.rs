//! What the sensors' tests stand on: a Modbus device of pymodbus, and two serial ports that are joined.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::pty::OpenptFlags;

/// A Modbus device, `tests/python/modbus_server.py`.
pub(crate) struct Device(Child);

impl Device {
    pub(crate) fn tcp(port: u16) -> Self {
        Self::start(&["tcp", &port.to_string()])
    }

    pub(crate) fn rtu(device: &Path) -> Self {
        Self::start(&["rtu", device.to_str().unwrap()])
    }

    fn start(arguments: &[&str]) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/modbus_server.py");
        let mut child = Command::new(python()).arg(tests).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        Self(child)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As `sanderling_tests::programs::python`.
fn python() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python3");
    let path = std::env::var_os("SANDERLING_PYTHON").map_or_else(default, PathBuf::from);
    assert!(path.is_file(), "{}: `cargo xtask test` makes it, or name one in SANDERLING_PYTHON", path.display());
    path
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Two serial ports with a line between them, as long as this lives.
pub(crate) struct Line {
    pub(crate) one: PathBuf,
    pub(crate) other: PathBuf,
    // Keep the line from hanging up while nobody has the ports open.
    _held: [File; 2],
}

impl Line {
    pub(crate) fn new() -> Self {
        let ((one, one_name), (other, other_name)) = (pseudo_terminal(), pseudo_terminal());
        let held = [&one_name, &other_name].map(|name| {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
            File::from(rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap())
        });
        carry(one.try_clone().unwrap(), other.try_clone().unwrap());
        carry(other, one);
        Self { one: one_name, other: other_name, _held: held }
    }
}

fn pseudo_terminal() -> (File, PathBuf) {
    let device = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::grantpt(&device).unwrap();
    rustix::pty::unlockpt(&device).unwrap();
    let name = rustix::pty::ptsname(&device, Vec::new()).unwrap();
    (File::from(device), PathBuf::from(name.to_str().unwrap()))
}

/// Ends when the ports are gone.
fn carry(mut from: File, mut to: File) {
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

/// A Mosquitto without TLS that asks for a password.
pub(crate) struct Plain {
    folder: tempfile::TempDir,
    child: Child,
    pub(crate) port: u16,
}

impl Plain {
    pub(crate) fn start(user: &str, password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, passwords) = (free_port(), folder.path().join("passwords"));
        let made = Command::new("mosquitto_passwd").arg("-b").arg("-c").arg(&passwords).args([user, password]).status();
        assert!(made.unwrap().success());
        // Mosquitto gives its rights up when it is started by root.
        std::fs::set_permissions(&passwords, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\n", passwords.display());
        std::fs::write(folder.path().join("conf"), text).unwrap();
        let mut command = Command::new(crate::link_support::mosquitto::program());
        let child = command.arg("-c").arg(folder.path().join("conf")).stderr(Stdio::null()).spawn().unwrap();
        for _ in 0..1000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self { folder, child, port }
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
