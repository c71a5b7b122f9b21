//! Service `<cr>-file`, the ports that file clients use by convention.

use k8s_openapi::api::core::v1::Service;

use super::service::{to_number, with_settings};
use crate::reconcile::{ClientPorts, ValidatedServer};

/// Where the server listens, behind the ports of `spec.ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetPorts {
    /// The port of the NFS adapter.
    pub nfs: u16,
    /// The port of the SMB adapter.
    pub smb: u16,
}

impl From<ClientPorts> for TargetPorts {
    /// The targets before any adapter was discovered: the client's own port numbers.
    fn from(ports: ClientPorts) -> Self {
        Self { nfs: ports.nfs, smb: ports.smb }
    }
}

/// The Service with `spec.ports` in front of `targets`; `None` when `fileService.enabled` is false.
pub fn file_service(server: &ValidatedServer, targets: TargetPorts) -> Option<Service> {
    server.file_service_enabled.then(|| {
        let ports =
            vec![to_number("nfs", server.ports.nfs, targets.nfs), to_number("smb", server.ports.smb, targets.smb)];
        with_settings(server, server.names().file_service(), &server.file_service, ports)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::server;

    #[test]
    fn there_is_none_when_it_is_switched_off() {
        let off = server("files").with(|s| s.file_service_enabled = false).build();
        assert_eq!(file_service(&off, off.ports.into()), None);
        let on = server("files").build();
        assert!(file_service(&on, on.ports.into()).is_some());
    }
}
