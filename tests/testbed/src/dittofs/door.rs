//! What a connection speaks, found out from its first bytes: HTTP, TLS with the certificate of the server that the
//! client names, or a proxy's CONNECT with either inside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use super::listener::{Hub, converse};
use super::route::server_of_host;

/// First byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// The longest head of a CONNECT.
const HEAD: usize = 8 * 1024;
/// What the real server answers to a request that is not encrypted, and ours to one that should not be.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn welcome(mut stream: TcpStream, hub: Arc<Hub>) -> io::Result<()> {
    // Answers are small and written at once: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let mut first = [0; 8];
    let mut read = stream.peek(&mut first).await?;
    if first[..read].starts_with(b"C") {
        open_tunnel(&mut stream).await?;
        read = stream.peek(&mut first).await?;
    }
    match first[..read].first() {
        None => Ok(()),
        Some(&HANDSHAKE) => secure(stream, hub).await,
        Some(_) => {
            // Without linger, closing sends RST.
            converse(stream, hub, None, |stream| stream.set_zero_linger()).await;
            Ok(())
        }
    }
}

/// Answers a CONNECT as if the other end were here, which it is.
async fn open_tunnel(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    // The client waits for the answer before it sends more: no byte of what follows is read here.
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        head.push(stream.read_u8().await?);
    }
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await
}

async fn secure(stream: TcpStream, hub: Arc<Hub>) -> io::Result<()> {
    let mut start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let named = start.client_hello().server_name().map(str::to_owned);
    let named = named.as_deref().and_then(server_of_host);
    // An address names none: it can only be the one server that has a certificate.
    let server = named.map_or_else(|| hub.only_one_with_tls(), |(namespace, name)| Some(hub.server(namespace, name)));
    let Some((server, config)) = server.and_then(|server| server.tls().map(|config| (server, config))) else {
        return start.io.write_all(NOT_TLS).await;
    };
    match start.into_stream(config).into_fallible().await {
        Ok(stream) => {
            converse(stream, hub, Some(server), |stream| stream.into_inner().0.set_zero_linger()).await;
            Ok(())
        }
        Err((error, mut stream)) => {
            // What the client has sent is read, so that it gets the alert and no reset.
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await;
            Err(error)
        }
    }
}
