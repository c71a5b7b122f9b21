//! What a server does wrong, for which requests and how often. Pure.

use std::time::Duration;

use http::Method;

use super::{ADAPTERS, LOGIN, REFRESH};

/// How a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the real one.
    Normal,
    /// Never: the connection stays open.
    Hang,
    /// With this status and a problem document; nothing is done. A number that is no status is a 500.
    Status(u16),
    /// 200, with a text that is no JSON under the type of JSON; nothing is done.
    Garbage,
    /// 200, with no body; nothing is done.
    EmptyBody,
    /// 200, with `null`; nothing is done.
    Null,
    /// Does what was asked and sends half of the answer, under the length of the whole; then the connection is gone.
    /// An answer without a body is not sent at all.
    HalfBody,
    /// The connection is reset (RST) once the request was read; nothing is done.
    Reset,
    /// 401, as for a token that has expired; nothing is done.
    Unauthorized,
    /// 403, as for a role that may not; nothing is done.
    Forbidden,
    /// As the real one, that much later.
    Slow(Duration),
    /// 307 to there; nothing is done.
    Redirect(String),
    /// 200, with JSON of that many bytes: an empty array with spaces in it, at least two bytes long. A client that
    /// reads it all believes that nothing runs.
    Huge(usize),
    /// 200, with JSON that begins and never ends.
    Endless,
    /// 200, with JSON that is something else; nothing is done.
    UnknownShape,
    /// The list of adapters, with its first entry twice, the second time stopped and on another port. Other requests
    /// are answered as by the real server.
    DuplicateType,
    /// 200, with a small body that gzip makes 256 MiB of.
    GzipBomb,
    /// 200, with 100,000 arrays in each other.
    DeepNesting,
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every request, health checks too.
    All,
    /// `GET /api/v1/adapters`.
    AdaptersList,
    /// `POST /api/v1/auth/login`.
    Login,
    /// `POST /api/v1/auth/refresh`.
    Refresh,
    /// What is below `/api/v1/users`.
    Users,
    /// The settings of the NFS adapter.
    NfsSettings,
    /// Snapshot policies, their list and those of a share.
    SnapshotPolicies,
    /// `PUT` of a snapshot policy.
    SnapshotPolicyWrites,
}

impl Scope {
    fn covers(self, method: &Method, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::AdaptersList => method == Method::GET && path == ADAPTERS,
            Self::Login => path == LOGIN,
            Self::Refresh => path == REFRESH,
            Self::NfsSettings => path == "/api/v1/adapters/nfs/settings",
            Self::SnapshotPolicyWrites => method == Method::PUT && path.ends_with("/snapshot-policy"),
            Self::SnapshotPolicies => path == "/api/v1/snapshot-policies" || path.ends_with("/snapshot-policy"),
            Self::Users => path == "/api/v1/users" || path.starts_with("/api/v1/users/"),
        }
    }
}

struct Fault {
    mode: Mode,
    scope: Scope,
    /// For how many requests more; none: until it is switched off.
    left: Option<u32>,
}

/// The faults of one server: at most one a scope; a narrow scope is stronger than `All`.
#[derive(Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    refuse: bool,
}

impl Faults {
    /// Replaces the fault of that scope; `Normal` for all requests takes every fault away.
    pub(super) fn set(&mut self, mode: Mode, scope: Scope, left: Option<u32>) {
        self.faults.retain(|fault| fault.scope != scope && !(mode == Mode::Normal && scope == Scope::All));
        let lasts = left.is_none_or(|left| left > 0);
        // `Normal` for one scope is an exception from a fault for all.
        if lasts && !(mode == Mode::Normal && scope == Scope::All) {
            self.faults.push(Fault { mode, scope, left });
        }
    }

    pub(super) fn refuse(&mut self, refuse: bool) {
        self.refuse = refuse;
    }

    /// How this request is answered; counts it.
    pub(super) fn take(&mut self, method: &Method, path: &str) -> Mode {
        if self.refuse {
            return Mode::Reset;
        }
        let covering = |fault: &&mut Fault| fault.scope.covers(method, path);
        let narrow_first = |fault: &&mut Fault| u8::from(fault.scope == Scope::All);
        let Some(fault) = self.faults.iter_mut().filter(covering).min_by_key(narrow_first) else {
            return Mode::Normal;
        };
        let mode = fault.mode.clone();
        if let Some(left) = &mut fault.left {
            *left -= 1;
        }
        self.faults.retain(|fault| fault.left != Some(0));
        mode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(faults: &mut Faults) -> Mode {
        faults.take(&Method::GET, ADAPTERS)
    }

    fn login(faults: &mut Faults) -> Mode {
        faults.take(&Method::POST, LOGIN)
    }

    #[test]
    fn a_fault_for_n_requests_ends_after_n_of_its_own() {
        let mut faults = Faults::default();
        faults.set(Mode::Hang, Scope::AdaptersList, Some(2));
        let seen = [login(&mut faults), poll(&mut faults), login(&mut faults), poll(&mut faults), poll(&mut faults)];
        assert_eq!(seen, [Mode::Normal, Mode::Hang, Mode::Normal, Mode::Hang, Mode::Normal]);
    }

    #[test]
    fn a_narrow_scope_is_stronger_than_all() {
        let mut faults = Faults::default();
        faults.set(Mode::Null, Scope::Login, None);
        faults.set(Mode::Hang, Scope::All, None);
        assert_eq!([login(&mut faults), poll(&mut faults)], [Mode::Null, Mode::Hang]);
        faults.set(Mode::Normal, Scope::Login, None);
        assert_eq!([login(&mut faults), poll(&mut faults)], [Mode::Normal, Mode::Hang]);
        faults.set(Mode::Normal, Scope::All, None);
        assert_eq!([login(&mut faults), poll(&mut faults)], [Mode::Normal, Mode::Normal]);
    }

    #[test]
    fn refused_connections_are_reset_whatever_else_is_set() {
        let mut faults = Faults::default();
        faults.set(Mode::Null, Scope::AdaptersList, Some(1));
        faults.refuse(true);
        assert_eq!(poll(&mut faults), Mode::Reset);
        faults.refuse(false);
        assert_eq!(poll(&mut faults), Mode::Null);
    }
}
