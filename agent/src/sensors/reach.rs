//! Whether somebody listens at an address, for what is found out without the sensor itself.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// Connects, and ends the connection at once.
pub(super) fn reach(host: &str, port: u16, within: Duration) -> io::Result<()> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, within) {
            Ok(_) => return Ok(()),
            Err(refused) => error = refused,
        }
    }
    Err(error)
}
