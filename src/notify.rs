//! Tells whoever started us that capture is attached: a line on standard error, and `sd_notify`.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::standard_error::say;

/// Says `ready`, with what follows it on the line.
pub fn ready(detail: &str) {
    say(format_args!("ready {detail}"));
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = notify(&address)
    {
        tracing::warn!("cannot notify {}: {error}", address.to_string_lossy());
    }
}

fn notify(address: &OsString) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(b"READY=1", &address)
        .map(drop)
}
