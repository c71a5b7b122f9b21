//! The REST API of one server: a request and the server's state in, an answer out. No I/O. Every answer that the
//! recorded exchanges show is as recorded (`tests/exchanges.rs`); the few others are marked.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::clock::{self, Now};
use super::database::AccountError;
use super::policy::Policy;
use super::reply::Reply;
use super::server::State;
use super::token::{Claims, Purpose, Role};

/// One request, read to its end.
pub(super) struct Call<'a> {
    pub(super) method: &'a Method,
    /// On the server, percent-encoded.
    pub(super) path: &'a str,
    /// The Authorization header.
    pub(super) authorization: Option<&'a str>,
    pub(super) body: &'a [u8],
}

impl Call<'_> {
    fn body<'b, T: Deserialize<'b>>(&'b self) -> Result<T, Reply> {
        serde_json::from_slice(self.body).map_err(|_| bad_request("Invalid request body"))
    }
}

/// The claims behind an Authorization header, when they are good now.
pub(super) fn claims(state: &State, authorization: Option<&str>, now: Now) -> Option<Claims> {
    state.tokens.verify(authorization?.strip_prefix("Bearer ")?, Purpose::Access, now.wall)
}

/// Answers as the real server, and does what was asked.
pub(super) fn answer(state: &mut State, call: &Call<'_>, now: Now) -> Reply {
    let outcome = match call.path {
        "/health" => only_get(call).map(|()| health(state, now)),
        "/health/ready" => only_get(call).map(|()| ready(state, now)),
        path => match path.strip_prefix("/api/v1/") {
            Some(path) => api(state, call, path, now),
            None => Err(not_found()),
        },
    };
    outcome.unwrap_or_else(|error| error)
}

fn api(state: &mut State, call: &Call<'_>, path: &str, now: Now) -> Result<Reply, Reply> {
    let segments: Vec<&str> = path.split('/').collect();
    match (call.method.as_str(), segments.as_slice()) {
        ("POST", ["auth", "login"]) => return log_in(state, call, now),
        ("POST", ["auth", "refresh"]) => return refresh(state, call, now),
        _ => {}
    }
    if call.authorization.is_none() {
        return Err(Reply::text(StatusCode::UNAUTHORIZED, "Authorization header required"));
    }
    let claims = claims(state, call.authorization, now).ok_or_else(Reply::unauthorized)?;
    let admin = || if claims.role == Role::Admin { Ok(()) } else { Err(Reply::forbidden()) };
    match (call.method.as_str(), segments.as_slice()) {
        ("GET", ["auth", "me"]) => me(state, &claims),
        ("GET", ["adapters", "ports"]) => Ok(Reply::json(StatusCode::OK, &state.database.adapters.ports(now))),
        ("GET", ["adapters"]) => {
            // What a user without either role is told was not recorded.
            if claims.role == Role::User {
                return Err(Reply::forbidden());
            }
            Ok(Reply::json(StatusCode::OK, &state.database.adapters.list(now)))
        }
        ("POST", ["adapters"]) => admin().and_then(|()| create_adapter(state, call, now)),
        ("GET", ["adapters", "nfs", "settings"]) => {
            admin()?;
            Ok(Reply::json(StatusCode::OK, &state.database.nfs_settings()))
        }
        ("PATCH", ["adapters", "nfs", "settings"]) => {
            admin()?;
            state.database.patch_nfs_settings(&call.body::<Map<String, Value>>()?);
            Ok(Reply::json(StatusCode::OK, &state.database.nfs_settings()))
        }
        ("PUT", ["adapters", kind]) => admin().and_then(|()| change_adapter(state, call, kind, now)),
        ("DELETE", ["adapters", kind]) => {
            admin()?;
            if state.database.adapters.delete(kind) { Ok(Reply::no_content()) } else { Err(no_adapter()) }
        }
        ("POST", ["users"]) => admin().and_then(|()| create_user(state, call, now)),
        ("POST", ["users", name, "password"]) => admin().and_then(|()| reset_password(state, call, &decoded(name))),
        ("DELETE", ["users", name]) => {
            admin()?;
            if state.database.delete_user(&decoded(name)) { Ok(Reply::no_content()) } else { Err(no_user()) }
        }
        ("PUT", ["shares", share, "snapshot-policy"]) => {
            admin()?;
            let policy = Policy::read(&call.body::<Map<String, Value>>()?).map_err(|words| bad_request(&words))?;
            let (share, shown) = (decoded(share), policy.shown(&decoded(share)));
            if state.database.set_snapshot_policy(&share, policy) {
                // The answer for a share that exists was not recorded.
                Ok(Reply::json(StatusCode::OK, &shown))
            } else {
                Err(problem(StatusCode::NOT_FOUND, "share not found"))
            }
        }
        // Not recorded.
        ("GET", ["snapshot-policies"]) => {
            admin()?;
            Ok(Reply::json(StatusCode::OK, &state.database.snapshot_policies()))
        }
        _ => Err(not_found()),
    }
}

fn health(state: &State, now: Now) -> Reply {
    let seconds = now.wall.duration_since(state.started).unsigned_abs().as_secs();
    let body = json!({
        "status": "healthy",
        "timestamp": now.wall.to_string(),
        "data": {
            "control_plane_db": "reachable",
            "service": "dittofs",
            "started_at": clock::whole_seconds(state.started),
            "uptime": clock::go_duration(seconds),
            "uptime_sec": seconds,
        },
    });
    Reply::json(StatusCode::OK, &body)
}

fn ready(state: &State, now: Now) -> Reply {
    if !state.ready {
        // Only the status was described, not the body.
        let body = json!({"status": "unhealthy", "timestamp": now.wall.to_string(), "error": "not ready"});
        return Reply::json(StatusCode::SERVICE_UNAVAILABLE, &body);
    }
    let running = state.database.adapters.views(now).into_iter().filter(|adapter| adapter.running);
    let types: Vec<String> = running.map(|adapter| adapter.kind).collect();
    let body = json!({
        "status": "healthy",
        "timestamp": now.wall.to_string(),
        "data": {
            "adapters": {"running": types.len(), "types": types},
            "grace_period": {
                "active": false,
                "expected_clients": 0,
                "reclaimed_clients": 0,
                "remaining_seconds": 0,
            },
            "metadata_stores": 0,
            "shares": state.database.share_count(),
        },
    });
    Reply::json(StatusCode::OK, &body)
}

#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

fn log_in(state: &mut State, call: &Call<'_>, now: Now) -> Result<Reply, Reply> {
    let Credentials { username, password } = call.body()?;
    if username.is_empty() || password.is_empty() {
        return Err(bad_request("Username and password are required"));
    }
    if state.database.log_in(&username, &password, now).is_none() {
        return Err(problem(StatusCode::UNAUTHORIZED, "Invalid username or password"));
    }
    session(state, &username, now)
}

#[derive(Deserialize)]
struct RefreshRequest {
    #[serde(default)]
    refresh_token: String,
}

fn refresh(state: &State, call: &Call<'_>, now: Now) -> Result<Reply, Reply> {
    let RefreshRequest { refresh_token } = call.body()?;
    let refused = || problem(StatusCode::UNAUTHORIZED, "Invalid refresh token");
    let claims = state.tokens.verify(&refresh_token, Purpose::Refresh, now.wall).ok_or_else(refused)?;
    // An account that was deleted, or made again under its name, is not the one that logged in.
    let known = state.database.user(&claims.username).is_some_and(|user| user.id == claims.sub);
    if known { session(state, &claims.username, now) } else { Err(refused()) }
}

/// New tokens for that user.
fn session(state: &State, username: &str, now: Now) -> Result<Reply, Reply> {
    let user = state.database.user(username).ok_or_else(no_user)?;
    let token = |purpose| state.tokens.sign(&user.id, &user.username, user.role, purpose, now.wall);
    let body = json!({
        "access_token": token(Purpose::Access),
        "refresh_token": token(Purpose::Refresh),
        "token_type": "Bearer",
        "expires_in": state.tokens.access.as_secs(),
        "expires_at": clock::add(now.wall, state.tokens.access).to_string(),
        "user": user.json(),
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

fn me(state: &State, claims: &Claims) -> Result<Reply, Reply> {
    let user = state.database.user(&claims.username).ok_or_else(no_user)?;
    Ok(Reply::json(StatusCode::OK, &user.json()))
}

#[derive(Deserialize)]
struct NewUser {
    #[serde(flatten)]
    credentials: Credentials,
    role: Option<String>,
}

fn create_user(state: &mut State, call: &Call<'_>, now: Now) -> Result<Reply, Reply> {
    let NewUser { credentials: Credentials { username, password }, role } = call.body()?;
    if username.is_empty() || password.is_empty() {
        return Err(bad_request("Username and password are required"));
    }
    let role = Role::parse(role.as_deref().unwrap_or("user")).ok_or_else(|| bad_request("Invalid role"))?;
    match state.database.create_user(&username, &password, role, now) {
        Ok(user) => Ok(Reply::json(StatusCode::CREATED, &user.json())),
        Err(error) => Err(account_problem(error)),
    }
}

#[derive(Deserialize)]
struct PasswordReset {
    #[serde(default)]
    new_password: String,
}

fn reset_password(state: &mut State, call: &Call<'_>, username: &str) -> Result<Reply, Reply> {
    let PasswordReset { new_password } = call.body()?;
    state.database.set_password(username, &new_password).map_err(account_problem)?;
    Ok(Reply::no_content())
}

fn account_problem(error: AccountError) -> Reply {
    match error {
        AccountError::Exists => problem(StatusCode::CONFLICT, "User already exists"),
        AccountError::TooShort => problem(StatusCode::INTERNAL_SERVER_ERROR, "Failed to hash password"),
        AccountError::Unknown => no_user(),
    }
}

#[derive(Deserialize)]
struct AdapterChange {
    enabled: Option<bool>,
    port: Option<u16>,
}

fn change_adapter(state: &mut State, call: &Call<'_>, kind: &str, now: Now) -> Result<Reply, Reply> {
    let AdapterChange { enabled, port } = call.body()?;
    let adapters = &mut state.database.adapters;
    adapters.change(kind, enabled, port, state.drain, now);
    let changed = adapters.one(kind, now).ok_or_else(no_adapter)?;
    Ok(Reply::json(StatusCode::OK, &changed))
}

#[derive(Deserialize)]
struct NewAdapter {
    #[serde(rename = "type", default)]
    kind: String,
    enabled: Option<bool>,
    port: Option<u16>,
}

fn create_adapter(state: &mut State, call: &Call<'_>, now: Now) -> Result<Reply, Reply> {
    let NewAdapter { kind, enabled, port } = call.body()?;
    let usual_port = match kind.as_str() {
        "nfs" => 12049,
        "smb" => 1445,
        _ => return Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "Failed to create adapter")),
    };
    if state.database.adapters.has(&kind) {
        return Err(problem(StatusCode::CONFLICT, "Adapter already exists"));
    }
    let (enabled, port) = (enabled.unwrap_or(true), port.unwrap_or(usual_port));
    let made = state.database.adapters.create(&kind, enabled, port, state.start_delay, now);
    Ok(Reply::json(StatusCode::CREATED, &made))
}

fn only_get(call: &Call<'_>) -> Result<(), Reply> {
    if call.method == Method::GET { Ok(()) } else { Err(not_found()) }
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn problem(status: StatusCode, detail: &str) -> Reply {
    Reply::problem(status, detail)
}

fn bad_request(detail: &str) -> Reply {
    problem(StatusCode::BAD_REQUEST, detail)
}

fn no_user() -> Reply {
    problem(StatusCode::NOT_FOUND, "User not found")
}

fn no_adapter() -> Reply {
    problem(StatusCode::NOT_FOUND, "Adapter not found")
}

fn not_found() -> Reply {
    Reply::text(StatusCode::NOT_FOUND, "404 page not found")
}
