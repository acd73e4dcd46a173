//! The proxy's connections: four tasks each, two that read and judge, two that write.

use std::{
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Faults, Packet, Passing, Shared, Toward, Verdict, lock};
use crate::Deadline;

/// Packets on their way in one direction.
const QUEUE: usize = 64;
const READ: usize = 64 * 1024;

/// The ways out of the proxy on one connection.
#[derive(Clone)]
struct Ways {
    broker: mpsc::Sender<(Deadline, Packet)>,
    device: mpsc::Sender<(Deadline, Packet)>,
}

impl Ways {
    fn toward(&self, toward: Toward) -> &mpsc::Sender<(Deadline, Packet)> {
        match toward {
            Toward::Broker => &self.broker,
            Toward::Device => &self.device,
        }
    }
}

/// Why a connection ends; nobody asks which.
struct Ended;

impl<E: std::error::Error> From<E> for Ended {
    fn from(_: E) -> Self {
        Self
    }
}

pub(super) fn serve(
    shared: &Arc<Shared>,
    listener: TcpListener,
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
    stopped: oneshot::Receiver<()>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let connector = TlsConnector::from(Arc::new(client));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accept = async {
            while let Ok((device, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let connection = connection(shared.clone(), number, device, acceptor.clone(), connector.clone());
                tokio::spawn(async move {
                    let _ = connection.await;
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

async fn connection(
    shared: Arc<Shared>,
    number: u64,
    device: TcpStream,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
) -> Result<(), Ended> {
    let mut ended = shared.ended.subscribe();
    let carried = async {
        device.set_nodelay(true)?;
        let broker = TcpStream::connect(shared.to).await?;
        broker.set_nodelay(true)?;
        let broker = connector.connect(ServerName::IpAddress(shared.to.ip().into()), broker).await?;
        let device = acceptor.accept(device).await?;
        let (device_reads, device_writes) = split(device);
        let (broker_reads, broker_writes) = split(broker);
        let (to_broker, for_broker) = mpsc::channel(QUEUE);
        let (to_device, for_device) = mpsc::channel(QUEUE);
        let ways = Ways { broker: to_broker, device: to_device };
        let (injected, injections) = mpsc::channel(QUEUE);
        *lock(&shared.device) = Some(injected);
        let faults = || shared.faults.subscribe();
        tokio::select! {
            end = read(&shared, number, Toward::Broker, device_reads, ways.clone()) => end,
            end = read(&shared, number, Toward::Device, broker_reads, ways.clone()) => end,
            end = write(Toward::Broker, broker_writes, for_broker, faults()) => end,
            end = write(Toward::Device, device_writes, for_device, faults()) => end,
            end = inject(injections, ways.device.clone()) => end,
        }
    };
    tokio::select! {
        end = carried => end,
        _ = ended.wait_for(|ended| *ended >= number) => Ok(()),
    }
}

/// Reads packets and lets the judge decide.
async fn read(
    shared: &Shared,
    connection: u64,
    toward: Toward,
    mut from: impl AsyncRead + Unpin,
    ways: Ways,
) -> Result<(), Ended> {
    let mut faults = shared.faults.subscribe();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; READ];
    loop {
        let read = from.read(&mut buffer).await;
        // Also what was awaited when the silence began, the end of the connection included: a dead peer does not hang up.
        faults.wait_for(|faults| !faults.silent).await?;
        let length = read?;
        if length == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        while let Some(packet) = Packet::take(&mut bytes) {
            let verdict = match &mut *lock(&shared.judge) {
                Some(judge) => judge(Passing { connection, toward, packet: &packet }),
                None => Verdict::Pass,
            };
            let due = Deadline::after(faults.borrow().delay);
            let back = if toward == Toward::Broker { Toward::Device } else { Toward::Broker };
            let (way, packets) = match verdict {
                Verdict::Pass => (toward, vec![packet]),
                Verdict::Drop => (toward, Vec::new()),
                Verdict::Replace(packets) => (toward, packets),
                Verdict::Add(packets) => {
                    ways.toward(toward).send((due, packet)).await?;
                    (Toward::Device, packets)
                }
                Verdict::Answer(packets) => (back, packets),
                Verdict::Cut => return Ok(()),
            };
            for packet in packets {
                ways.toward(way).send((due, packet)).await?;
            }
        }
    }
}

/// Writes packets when they are due.
async fn write(
    toward: Toward,
    mut to: impl AsyncWrite + Unpin,
    mut packets: mpsc::Receiver<(Deadline, Packet)>,
    mut faults: watch::Receiver<Faults>,
) -> Result<(), Ended> {
    let mut written = 0_u64;
    while let Some((due, packet)) = packets.recv().await {
        if let Some(left) = due.left() {
            to.flush().await?;
            tokio::time::sleep(left).await;
        }
        let Faults { rate, cut_after, .. } = *faults.wait_for(|faults| !faults.silent).await?;
        let mut bytes = packet.0.as_slice();
        let left = cut_after.filter(|(cut, _)| *cut == toward).map(|(_, after)| after.saturating_sub(written));
        let cut = left.and_then(|left| usize::try_from(left).ok()).filter(|left| *left < bytes.len());
        if let Some(cut) = cut {
            bytes = bytes.get(..cut).unwrap_or_default();
        }
        if let Some(rate) = rate {
            // A tenth of a second at a time, so that a long packet trickles.
            let step = usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1);
            for piece in bytes.chunks(step) {
                to.write_all(piece).await?;
                to.flush().await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        } else {
            to.write_all(bytes).await?;
            if packets.is_empty() {
                to.flush().await?;
            }
        }
        if cut.is_some() {
            to.flush().await?;
            return Ok(());
        }
        written += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
    Ok(())
}

async fn inject(mut packets: mpsc::Receiver<Packet>, device: mpsc::Sender<(Deadline, Packet)>) -> Result<(), Ended> {
    while let Some(packet) = packets.recv().await {
        device.send((Deadline::after(Duration::ZERO), packet)).await?;
    }
    // A newer connection is sent to; this one goes on.
    std::future::pending().await
}
