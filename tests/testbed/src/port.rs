//! Ports for programs that must be told theirs.
//!
//! Keeps nothing open: another program could take the port meanwhile, which the choice of the range makes unlikely.

use std::sync::atomic::{AtomicU16, Ordering};

/// A port of 127.0.0.1 that is free now, below the range from which the kernel takes ports for outgoing connections:
/// nothing but another test could take it meanwhile, and those start to search elsewhere.
pub fn free_port() -> anyhow::Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let offset = u16::try_from(offset).unwrap_or_default();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset.wrapping_add(step)) % COUNT;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}
