//! The further ports of Service `<cr>-adapter-nfs`: portmapper and UDP.
//!
//! They stand behind the adapter's own port, and only where the server has them switched on. A Service may have two
//! ports of one number when their protocols differ.

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::reconcile::NfsPorts;
use crate::reconcile::nfs::{NFS_UDP, PORTMAP, PORTMAP_PORT, PORTMAP_UDP};

/// The ports, sorted by name; `port` is the adapter's.
pub fn nfs_ports(port: u16, settings: NfsPorts) -> Vec<ServicePort> {
    let one = |name: &str, protocol: &str, port: u16, target: u16| ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        protocol: Some(protocol.to_owned()),
        target_port: Some(IntOrString::Int(target.into())),
        ..ServicePort::default()
    };
    let mut ports = Vec::new();
    if settings.udp {
        ports.push(one(NFS_UDP, "UDP", port, port));
    }
    if let Some(target) = settings.portmapper {
        ports.push(one(PORTMAP, "TCP", PORTMAP_PORT, target));
        ports.push(one(PORTMAP_UDP, "UDP", PORTMAP_PORT, target));
    }
    ports
}
