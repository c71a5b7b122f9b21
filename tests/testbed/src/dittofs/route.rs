//! Which server a request is for, and which path of it. Pure.

use http::{HeaderMap, Uri};

/// One request's server and the path on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Begins with `/`; still percent-encoded; without the query.
    pub(super) path: String,
}

/// The server by the host that was asked for (`NAME-api.NAMESPACE.svc…`: a proxy request, or a client that resolves
/// the name to us), or by the path `/NAMESPACE/NAME/…`; none when neither names one.
pub(super) fn route(uri: &Uri, headers: &HeaderMap) -> Option<Route> {
    let header = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.host().or(header).unwrap_or_default();
    by_host(host, uri.path()).or_else(|| by_path(uri.path()))
}

fn by_host(host: &str, path: &str) -> Option<Route> {
    let (namespace, name) = server_of_host(host)?;
    let path = if path.is_empty() { "/" } else { path };
    Some(Route { namespace: namespace.to_owned(), name: name.to_owned(), path: path.to_owned() })
}

/// Namespace and name in `NAME-api.NAMESPACE.svc…`.
pub(super) fn server_of_host(host: &str) -> Option<(&str, &str)> {
    let host = host.split(':').next().unwrap_or_default().trim_end_matches('.');
    let mut labels = host.splitn(3, '.');
    let name = labels.next()?.strip_suffix("-api")?;
    let namespace = labels.next()?;
    let domain = labels.next()?;
    let in_cluster = domain == "svc" || domain.starts_with("svc.");
    (in_cluster && !name.is_empty() && !namespace.is_empty()).then_some((namespace, name))
}

fn by_path(path: &str) -> Option<Route> {
    let mut parts = path.strip_prefix('/')?.splitn(3, '/');
    let namespace = parts.next().filter(|part| !part.is_empty())?;
    let name = parts.next().filter(|part| !part.is_empty())?;
    let path = format!("/{}", parts.next().unwrap_or_default());
    Some(Route { namespace: namespace.to_owned(), name: name.to_owned(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(uri: &str, host: Option<&str>) -> Option<(String, String, String)> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(http::header::HOST, host.parse().unwrap());
        }
        let Route { namespace, name, path } = route(&uri.parse().unwrap(), &headers)?;
        Some((namespace, name, path))
    }

    fn files() -> (String, String, String) {
        ("team".to_owned(), "files".to_owned(), "/api/v1/adapters".to_owned())
    }

    #[test]
    fn a_path_an_absolute_address_and_a_host_header_reach_the_same_server() {
        assert_eq!(routed("/team/files/api/v1/adapters?x=1", Some("127.0.0.1:4711")), Some(files()));
        assert_eq!(routed("http://files-api.team.svc.cluster.local:8080/api/v1/adapters", None), Some(files()));
        assert_eq!(routed("/api/v1/adapters", Some("files-api.team.svc.cluster.local:8080")), Some(files()));
        assert_eq!(routed("/api/v1/adapters", Some("files-api.team.svc")), Some(files()));
        assert_eq!(routed("http://127.0.0.1:4711/team/files/api/v1/adapters", None), Some(files()));
    }

    #[test]
    fn an_escaped_slash_stays_within_its_segment() {
        let (_, _, path) = routed("/team/files/api/v1/shares/%2Farchive/snapshot-policy", None).unwrap();
        assert_eq!(path, "/api/v1/shares/%2Farchive/snapshot-policy");
    }

    #[test]
    fn what_names_no_server_reaches_none() {
        assert_eq!(routed("/", Some("localhost")), None);
        assert_eq!(routed("/team", Some("localhost")), None);
        assert_eq!(routed("http://example.com/", None), None);
    }
}
