//! A broker that does what a test says: it takes one connection after the other and answers each packet by a script.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::pki::Pki;

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// What the broker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Answers CONNECT with this reason code.
    Refuse(u8),
    /// Closes after CONNECT.
    CloseAtConnect,
    /// Closes after CONNACK.
    CloseAfterConnack,
    /// Answers CONNECT and pings, and nothing else.
    AnswerPingsOnly,
    /// Answers everything, SUBSCRIBE with this code.
    Suback(u8),
    /// Sends a PUBLISH that is longer than it may be.
    SendTooLong,
    /// Answers everything, and says that packets may have this many bytes at most.
    MaxPacket(u16),
    /// Answers CONNECT with a length that MQTT does not have.
    Nonsense,
}

/// Starts it and returns its port. Its threads end when the test's process does.
pub(crate) fn start(pki: &Pki, script: Script) -> u16 {
    let (cert, key) = pki.broker(&["localhost"], false);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(cert).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || serve(&mut StreamOwned::new(connection, stream), script));
        }
    });
    port
}

fn serve(stream: &mut Stream, script: Script) -> Option<()> {
    loop {
        let (kind, packet) = packet(stream)?;
        let answer = match (kind, script) {
            (1, Script::CloseAtConnect) => return None,
            (1, Script::Refuse(code)) => vec![0x20, 3, 0, code, 0],
            (1, Script::Nonsense) => vec![0x20, 0xff, 0xff, 0xff, 0xff, 0xff],
            (1, Script::MaxPacket(max)) => {
                let max = u32::from(max).to_be_bytes();
                [&[0x20, 8, 0, 0, 5, 0x27], &max[..]].concat()
            }
            (1, _) => vec![0x20, 3, 0, 0, 0],
            (12, _) => vec![0xd0, 0],
            (_, Script::AnswerPingsOnly) => continue,
            (3, _) => {
                // QoS 1: topic, then the packet id.
                let topic = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                vec![0x40, 2, packet[2 + topic], packet[3 + topic]]
            }
            (8, Script::Suback(code)) => vec![0x90, 4, packet[0], packet[1], 0, code],
            (8, _) => vec![0x90, 4, packet[0], packet[1], 0, 1],
            _ => continue,
        };
        stream.write_all(&answer).ok()?;
        stream.flush().ok()?;
        match (kind, script) {
            (1, Script::CloseAfterConnack) => return None,
            (1, Script::SendTooLong) => {
                // A remaining length of 1 MiB, and only the beginning of it.
                stream.write_all(&[0x30, 0x80, 0x80, 0x40, 0, 1, b't', 0]).ok()?;
                stream.flush().ok()?;
            }
            _ => {}
        }
    }
}

/// Kind and body of the next packet.
fn packet(stream: &mut Stream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let kind = byte[0] >> 4;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((kind, body))
}
