//! The two security contexts: defaults that a `restricted` namespace admits, and the user's fields over them.
//!
//! The user wins field by field. A default is left out where it would contradict what the user asked for.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

use crate::reconcile::ValidatedServer;

/// Group of the server's image, which owns the volumes' files.
const FS_GROUP: i64 = 65532;

/// `spec.podSecurityContext` over the defaults: non-root, `RuntimeDefault` seccomp, the image's group.
///
/// Non-root and seccomp stand here and not at the container, where they would hide what the user chose for the pod.
pub(super) fn of_pod(server: &ValidatedServer) -> PodSecurityContext {
    let mut context = server.pod_security_context.clone().unwrap_or_default();
    let container = server.security_context.as_ref();
    let user = container.and_then(|container| container.run_as_user).or(context.run_as_user);
    if context.run_as_non_root.is_none() && user != Some(0) {
        context.run_as_non_root = Some(true);
    }
    context.fs_group.get_or_insert(FS_GROUP);
    context
        .seccomp_profile
        .get_or_insert_with(|| SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() });
    context
}

/// `spec.securityContext` over the defaults: no privilege escalation, no capability.
pub(super) fn of_container(server: &ValidatedServer) -> SecurityContext {
    let mut context = server.security_context.clone().unwrap_or_default();
    let capabilities = context.capabilities.get_or_insert_with(Capabilities::default);
    if capabilities.drop.is_none() {
        capabilities.drop = Some(vec!["ALL".to_owned()]);
    }
    // The API server refuses "no escalation" together with either of these.
    let escalates = context.privileged == Some(true)
        || capabilities
            .add
            .iter()
            .flatten()
            .any(|capability| ["SYS_ADMIN", "CAP_SYS_ADMIN"].contains(&capability.as_str()));
    if context.allow_privilege_escalation.is_none() && !escalates {
        context.allow_privilege_escalation = Some(false);
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::server;

    #[test]
    fn the_defaults_are_those_of_a_restricted_namespace() {
        let server = server("files").build();
        let pod = of_pod(&server);
        assert_eq!((pod.run_as_non_root, pod.fs_group), (Some(true), Some(65532)));
        assert_eq!(pod.seccomp_profile.map(|profile| profile.type_).as_deref(), Some("RuntimeDefault"));
        let container = of_container(&server);
        assert_eq!(container.allow_privilege_escalation, Some(false));
        assert_eq!(container.capabilities.and_then(|capabilities| capabilities.drop), Some(vec!["ALL".to_owned()]));
        assert_eq!(container.read_only_root_filesystem, None, "the server uses its temp folder");
    }

    #[test]
    fn the_user_wins_field_by_field_and_the_rest_stays() {
        let server = server("files")
            .with(|s| {
                s.pod_security_context =
                    Some(PodSecurityContext { run_as_user: Some(1234), ..PodSecurityContext::default() });
                s.security_context = Some(SecurityContext {
                    capabilities: Some(Capabilities { add: Some(vec!["NET_BIND_SERVICE".into()]), drop: None }),
                    ..SecurityContext::default()
                });
            })
            .build();
        let pod = of_pod(&server);
        assert_eq!((pod.run_as_user, pod.run_as_non_root, pod.fs_group), (Some(1234), Some(true), Some(65532)));
        let capabilities = of_container(&server).capabilities.unwrap();
        assert_eq!(capabilities.add, Some(vec!["NET_BIND_SERVICE".to_owned()]));
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    }

    #[test]
    fn a_user_may_relax_each_default() {
        let server = server("files")
            .with(|s| {
                s.pod_security_context = Some(PodSecurityContext {
                    fs_group: Some(0),
                    run_as_non_root: Some(false),
                    seccomp_profile: Some(SeccompProfile { type_: "Unconfined".into(), localhost_profile: None }),
                    ..PodSecurityContext::default()
                });
                s.security_context = Some(SecurityContext {
                    allow_privilege_escalation: Some(true),
                    capabilities: Some(Capabilities { add: None, drop: Some(vec!["KILL".into()]) }),
                    ..SecurityContext::default()
                });
            })
            .build();
        let pod = of_pod(&server);
        assert_eq!((pod.fs_group, pod.run_as_non_root), (Some(0), Some(false)));
        assert_eq!(pod.seccomp_profile.unwrap().type_, "Unconfined");
        let container = of_container(&server);
        assert_eq!(container.allow_privilege_escalation, Some(true));
        assert_eq!(container.capabilities.unwrap().drop, Some(vec!["KILL".to_owned()]));
    }

    #[test]
    fn no_default_contradicts_the_user() {
        let root = |s: &mut ValidatedServer| {
            s.security_context = Some(SecurityContext { run_as_user: Some(0), ..SecurityContext::default() });
        };
        assert_eq!(of_pod(&server("files").with(root).build()).run_as_non_root, None);
        let privileged = |s: &mut ValidatedServer| {
            s.security_context = Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() });
        };
        assert_eq!(of_container(&server("files").with(privileged).build()).allow_privilege_escalation, None);
    }
}
