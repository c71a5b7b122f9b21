//! Which ports the NFS adapter serves beside its own, as its settings say.
//!
//! Known from the server's answer to an administrator and from nothing else; what is not known removes no port.

/// What the settings of the NFS adapter say about its further ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NfsPorts {
    /// Port on which its portmapper listens, over TCP and UDP; none when it is switched off.
    pub portmapper: Option<u16>,
    /// It serves its own port over UDP, too.
    pub udp: bool,
}

/// The conventional port of a portmapper, which clients ask.
pub const PORTMAP_PORT: u16 = 111;
/// Names of the further ports in the adapter's Service.
pub const PORTMAP: &str = "portmap";
/// The same over UDP.
pub const PORTMAP_UDP: &str = "portmap-udp";
/// The adapter's own port over UDP.
pub const NFS_UDP: &str = "adapter-nfs-udp";
