//! The container ports of the server's container inside a pod template.
//!
//! Ports named `adapter-…` follow the adapters; every other port is left as it is by all functions here. A template
//! without the container has no ports, which is no error.

use serde_json::Value;

use super::ADAPTER_PORT_PREFIX;

/// The server's container.
pub(super) const CONTAINER: &str = "dittofs";

fn name_of(port: &Value) -> &str {
    port.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn is_adapter(port: &Value) -> bool {
    name_of(port).starts_with(ADAPTER_PORT_PREFIX)
}

fn container_mut(template: &mut Value) -> Option<&mut Value> {
    template
        .pointer_mut("/spec/containers")?
        .as_array_mut()?
        .iter_mut()
        .find(|container| container.get("name").and_then(Value::as_str) == Some(CONTAINER))
}

fn ports_mut(template: &mut Value) -> Option<&mut Vec<Value>> {
    container_mut(template)?.get_mut("ports")?.as_array_mut()
}

/// Whether there is anything to declare ports in.
pub(super) fn has_container(template: &Value) -> bool {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    containers.is_some_and(|all| all.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(CONTAINER)))
}

/// Name and whole entry of each adapter port, sorted by name.
pub(super) fn adapter_ports(template: &Value) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = template
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|container| container.get("name").and_then(Value::as_str) == Some(CONTAINER))
        .filter_map(|container| container.get("ports").and_then(Value::as_array))
        .flatten()
        .filter(|port| is_adapter(port))
        .map(|port| (name_of(port).to_owned(), port.clone()))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Makes the adapter ports exactly `wanted`, sorted behind the others; nothing moves when nothing differs.
pub(super) fn set_adapter_ports(template: &mut Value, wanted: &[(String, Value)]) {
    if adapter_ports(template) == wanted {
        return;
    }
    let Some(container) = container_mut(template).and_then(Value::as_object_mut) else { return };
    let ports = container.entry("ports").or_insert_with(|| Value::Array(Vec::new()));
    let Some(ports) = ports.as_array_mut() else { return };
    ports.retain(|port| !is_adapter(port));
    ports.extend(wanted.iter().map(|(_, port)| port.clone()));
    if ports.is_empty() {
        container.remove("ports");
    }
}

/// Puts the adapter ports behind the others, sorted: the order in which [`set_adapter_ports`] leaves them, so that
/// ports which go and come back give the very template that was there before.
pub(super) fn move_adapter_ports_last(template: &mut Value) {
    let sorted = adapter_ports(template);
    if let Some(ports) = ports_mut(template) {
        ports.retain(|port| !is_adapter(port));
        ports.extend(sorted.into_iter().map(|(_, port)| port));
    }
}

/// Takes out the port called `name`.
pub(super) fn remove_port(template: &mut Value, name: &str) {
    if let Some(ports) = ports_mut(template) {
        ports.retain(|port| name_of(port) != name);
    }
}

/// The template as it is without its adapter ports.
pub(super) fn without_adapter_ports(template: &Value) -> Value {
    let mut bare = template.clone();
    if let Some(ports) = ports_mut(&mut bare) {
        ports.retain(|port| !is_adapter(port));
        if ports.is_empty()
            && let Some(container) = container_mut(&mut bare).and_then(Value::as_object_mut)
        {
            container.remove("ports");
        }
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(ports: &Value) -> Value {
        json!({"spec": {"containers": [{"name": "sidecar", "ports": [{"name": "adapter-x", "containerPort": 9}]},
                                       {"name": "dittofs", "ports": ports}]}})
    }
    fn port(name: &str, number: u16) -> Value {
        json!({"name": name, "containerPort": number, "protocol": "TCP"})
    }
    fn wanted(ports: &[(&str, u16)]) -> Vec<(String, Value)> {
        ports.iter().map(|(name, number)| ((*name).to_owned(), port(name, *number))).collect()
    }

    #[test]
    fn adds_next_to_statics() {
        let mut t = template(&json!([port("api", 8080)]));
        set_adapter_ports(&mut t, &wanted(&[("adapter-nfs", 12049), ("adapter-smb", 1445)]));
        assert_eq!(t, template(&json!([port("api", 8080), port("adapter-nfs", 12049), port("adapter-smb", 1445)])));
    }

    #[test]
    fn removes_a_stopped_adapters_port_and_keeps_statics() {
        let mut t = template(&json!([
            port("api", 8080),
            port("adapter-smb", 1445),
            port("metrics", 9090),
            port("adapter-nfs", 12049)
        ]));
        set_adapter_ports(&mut t, &wanted(&[("adapter-nfs", 12049)]));
        assert_eq!(t, template(&json!([port("api", 8080), port("metrics", 9090), port("adapter-nfs", 12049)])));
    }

    #[test]
    fn statics_are_preserved_with_no_adapters() {
        let mut t = template(&json!([port("api", 8080), port("debug", 6060), port("adapter-nfs", 1)]));
        set_adapter_ports(&mut t, &[]);
        assert_eq!(t, template(&json!([port("api", 8080), port("debug", 6060)])));
    }

    #[test]
    fn equality_ignores_order_and_sees_everything_else() {
        let base = [("adapter-nfs", 1), ("adapter-smb", 2)];
        let listed = |ports: &[Value]| adapter_ports(&template(&json!(ports)));
        let (nfs, smb) = (port("adapter-nfs", 1), port("adapter-smb", 2));
        assert_eq!(listed(&[nfs.clone(), smb.clone()]), wanted(&base), "same");
        assert_eq!(listed(&[smb.clone(), nfs.clone()]), wanted(&base), "order");
        assert_eq!(listed(&[port("api", 7), smb.clone(), nfs.clone()]), wanted(&base), "statics do not count");
        assert_ne!(listed(std::slice::from_ref(&nfs)), wanted(&base), "length");
        assert_ne!(listed(&[nfs.clone(), port("adapter-smb", 3)]), wanted(&base), "number");
        assert_ne!(listed(&[nfs.clone(), port("adapter-ftp", 2)]), wanted(&base), "name");
        let udp = json!({"name": "adapter-smb", "containerPort": 2, "protocol": "UDP"});
        assert_ne!(listed(&[nfs, udp]), wanted(&base), "protocol");
        assert_eq!(listed(&[]), wanted(&[]), "empty");
    }

    #[test]
    fn nothing_moves_when_nothing_differs() {
        let mut t = template(&json!([port("adapter-smb", 2), port("api", 8080), port("adapter-nfs", 1)]));
        let before = t.clone();
        set_adapter_ports(&mut t, &wanted(&[("adapter-nfs", 1), ("adapter-smb", 2)]));
        assert_eq!(t, before);
    }

    #[test]
    fn ports_that_go_and_come_back_leave_the_template_as_it_was_once_they_stand_last() {
        let mut t = template(&json!([port("adapter-smb", 2), port("adapter-nfs", 1), port("api", 8080)]));
        move_adapter_ports_last(&mut t);
        let before = t.clone();
        assert_eq!(before, template(&json!([port("api", 8080), port("adapter-nfs", 1), port("adapter-smb", 2)])));
        set_adapter_ports(&mut t, &wanted(&[("adapter-smb", 2)]));
        assert_ne!(t, before);
        set_adapter_ports(&mut t, &wanted(&[("adapter-nfs", 1), ("adapter-smb", 2)]));
        assert_eq!(t, before);
    }

    #[test]
    fn two_adapters_of_one_port_number_are_both_declared() {
        let mut t = template(&json!([port("api", 8080)]));
        set_adapter_ports(&mut t, &wanted(&[("adapter-nfs", 5000), ("adapter-smb", 5000)]));
        assert_eq!(adapter_ports(&t).len(), 2);
    }

    #[test]
    fn a_template_without_the_container_is_no_error() {
        for mut t in
            [json!({}), json!({"spec": {"containers": []}}), json!({"spec": {"containers": [{"name": "other"}]}})]
        {
            let before = t.clone();
            set_adapter_ports(&mut t, &wanted(&[("adapter-nfs", 1)]));
            remove_port(&mut t, "metrics");
            assert_eq!(t, before);
            assert!(adapter_ports(&t).is_empty());
            assert_eq!(without_adapter_ports(&t), before);
        }
    }

    #[test]
    fn a_container_without_ports_gets_them_and_loses_them_again() {
        let mut t = json!({"spec": {"containers": [{"name": "dittofs"}]}});
        let before = t.clone();
        set_adapter_ports(&mut t, &wanted(&[("adapter-nfs", 1)]));
        assert_eq!(adapter_ports(&t), wanted(&[("adapter-nfs", 1)]));
        assert_eq!(without_adapter_ports(&t), before);
        set_adapter_ports(&mut t, &[]);
        assert_eq!(t, before);
    }
}
