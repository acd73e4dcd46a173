//! A man in the middle: a proxy before a real broker that looks at every MQTT packet and breaks what a test wants broken.
//!
//! Purpose: it ends the device's TLS with the broker's own certificate and goes on to the broker with the device's, so it can
//! hold back, delay, slow, cut, change, drop and add packets in either direction.
//!
//! Invariants: it listens on loopback, on a port that the kernel chose; it ends when it is dropped. Without a fault it changes
//! nothing. Packets that are added stand between whole packets.
//!
//! Failure modes: where the broker is away, the device's connection is closed at once, as if nobody listened.

mod carry;
pub mod packet;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::{mpsc, oneshot, watch};

pub use packet::Packet;

use crate::{Broker, Credentials, Device, Fleet, peer};

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// From the device to the broker.
    Broker,
    /// From the broker to the device.
    Device,
}

/// A packet on its way.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// The connection, counted from 1.
    pub connection: u64,
    /// Where it goes.
    pub toward: Toward,
    /// The packet.
    pub packet: &'a Packet,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is lost.
    Drop,
    /// These go on in its place.
    Replace(Vec<Packet>),
    /// It goes on, and these after it go to the device.
    Add(Vec<Packet>),
    /// It is lost, and these are answered to where it came from.
    Answer(Vec<Packet>),
    /// The connection ends here.
    Cut,
}

/// Decides on every packet.
pub type Judge = Box<dyn FnMut(Passing<'_>) -> Verdict + Send>;

/// What holds for whole connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Faults {
    /// Nothing passes, and nobody is told: the other end is dead.
    silent: bool,
    /// Each packet comes so much later.
    delay: Duration,
    /// At most so many bytes a second pass in each direction.
    rate: Option<u32>,
    /// The connection ends when so many bytes have passed in that direction.
    cut_after: Option<(Toward, u64)>,
}

struct Shared {
    to: SocketAddr,
    judge: Mutex<Option<Judge>>,
    faults: watch::Sender<Faults>,
    /// Connections up to this one are to end.
    ended: watch::Sender<u64>,
    connections: AtomicU64,
    /// The way to the device of the newest connection.
    device: Mutex<Option<mpsc::Sender<Packet>>>,
}

/// The proxy before one broker, for one device.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it before `broker`, where it appears as `device`; the device is to be sent to [`Proxy::port`].
    pub fn before(broker: &Broker, fleet: &Fleet, device: &Credentials) -> Self {
        let to = SocketAddr::from(([127, 0, 0, 1], broker.port()));
        let listener = TcpListener::bind((Broker::HOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(fleet.path("broker/broker.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(fleet.path("broker/broker.key")).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let client = peer::tls(device);
        let shared = Arc::new(Shared {
            to,
            judge: Mutex::new(None),
            faults: watch::Sender::new(Faults::default()),
            ended: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            device: Mutex::new(None),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || carry::serve(&shared, listener, server, client, stopped)
        });
        Self { port, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Starts it before `broker` and sends `device` through it.
    pub fn for_device(broker: &Broker, fleet: &Fleet, device: &Device) -> Self {
        let proxy = Self::before(broker, fleet, &device.credentials());
        device.lay("10-proxy", &format!("[broker]\nport = {}\n", proxy.port));
        proxy
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets `judge` decide on every packet from now on.
    pub fn judge(&self, judge: impl FnMut(Passing<'_>) -> Verdict + Send + 'static) {
        *lock(&self.shared.judge) = Some(Box::new(judge));
    }

    /// Ends all faults: everything passes as it is.
    pub fn pass(&self) {
        *lock(&self.shared.judge) = None;
        self.shared.faults.send_replace(Faults::default());
    }

    /// Ends all faults, and leaves the judge where it is.
    pub fn heal(&self) {
        self.shared.faults.send_replace(Faults::default());
    }

    /// From now on nothing comes through, in either direction, and nobody is told; or all does again, what was held included.
    pub fn silence(&self, silent: bool) {
        self.shared.faults.send_modify(|faults| faults.silent = silent);
    }

    /// Each packet comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.shared.faults.send_modify(|faults| faults.delay = delay);
    }

    /// At most so many bytes a second pass in each direction.
    pub fn throttle(&self, bytes_a_second: u32) {
        self.shared.faults.send_modify(|faults| faults.rate = Some(bytes_a_second.max(1)));
    }

    /// Each connection ends when so many bytes have passed in a direction, be it within a packet.
    pub fn cut_after(&self, toward: Toward, bytes: u64) {
        self.shared.faults.send_modify(|faults| faults.cut_after = Some((toward, bytes)));
    }

    /// Ends the connections that there are.
    pub fn cut(&self) {
        self.shared.ended.send_replace(self.connections());
    }

    /// How many connections there were so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Sends the device a packet that no broker sent. Waits while the device does not read; `false` where it is not connected.
    pub fn inject(&self, packet: Packet) -> bool {
        let device = lock(&self.shared.device).clone();
        device.is_some_and(|device| device.blocking_send(packet).is_ok())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A judge that panicked has failed its test; the proxy goes on to its end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
