//! A DittoFS server in the test process: it keeps accounts and tokens, answers with the recorded bodies, and can be
//! told to misbehave on the wire, byte by byte.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const EXCHANGES: &str = include_str!("../../../tests/fixtures/dittofs/exchanges.json");

/// How the server misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Hang,
    HangInBody,
    Drip,
    Status(u16),
    Garbage,
    Empty,
    Null,
    Half,
    HalfChunked,
    CutBody,
    Reset,
    Close,
    NotHttp,
    Redirect(u16),
    Huge,
    Endless,
    EndlessHeaders,
    GzipBomb,
    Echo(u16),
    EchoBody,
    Slow,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Value,
}

pub(super) struct State {
    pub(super) admin_password: String,
    /// Name and password.
    pub(super) users: HashMap<String, String>,
    pub(super) access: HashSet<String>,
    pub(super) refresh: HashSet<String>,
    pub(super) expires_in: Value,
    pub(super) adapters: Value,
    pub(super) password_min: usize,
    /// The first whose text is part of "METHOD /path" counts.
    pub(super) faults: Vec<(&'static str, Fault)>,
    pub(super) log: Vec<Seen>,
    /// Requests of all kinds and writes of the vault, in order.
    pub(super) events: Vec<String>,
    pub(super) redirect_to: String,
    /// Nobody but the administrator is let in.
    pub(super) accounts_off: bool,
    /// `started_at` of the server's health.
    pub(super) started: String,
    tokens: u32,
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) base: Url,
}

/// The recorded answer called `name`: status, content type, body.
pub(super) fn recorded(name: &str) -> (u16, String, Value) {
    let exchange = exchange(name);
    let response = &exchange["response"];
    let status = u16::try_from(response["status"].as_u64().expect("a status")).expect("a status");
    (status, response["content_type"].as_str().unwrap_or_default().to_owned(), response["body"].clone())
}

pub(super) fn exchange(name: &str) -> Value {
    let exchanges: Vec<Value> = serde_json::from_str(EXCHANGES).expect("the fixture");
    exchanges.into_iter().find(|exchange| exchange["name"] == name).expect(name)
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}/team-a/files", listener.local_addr().expect("an address"));
        let state = State {
            admin_password: "canary-admin-password".to_owned(),
            users: HashMap::new(),
            access: HashSet::new(),
            refresh: HashSet::new(),
            expires_in: json!(900),
            adapters: recorded("list-adapters-operator").2,
            password_min: 8,
            faults: Vec::new(),
            log: Vec::new(),
            events: Vec::new(),
            redirect_to: "http://127.0.0.1:9/".to_owned(),
            accounts_off: false,
            started: "2026-11-21T14:36:45Z".to_owned(),
            tokens: 0,
        };
        let server = Self { state: Arc::new(Mutex::new(state)), base: Url::parse(&base).expect("a URL") };
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a test has panicked")
    }

    pub(super) fn fail(&self, on: &'static str, fault: Fault) {
        self.lock().faults = vec![(on, fault)];
    }

    pub(super) fn heal(&self) {
        self.lock().faults.clear();
    }

    /// What happened since the last call, without the base path: "POST /auth/login admin".
    pub(super) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().events)
    }

    /// All tokens are refused from now on.
    pub(super) fn revoke(&self, access: bool, refresh: bool) {
        let mut state = self.lock();
        if access {
            state.access.clear();
        }
        if refresh {
            state.refresh.clear();
        }
    }

    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let mut lines = head.lines();
        let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
        while bytes.len() < head_end + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let body = serde_json::from_slice(&bytes[head_end..]).unwrap_or(Value::Null);
        let seen = Seen { line, headers, body };
        let (fault, raw) = {
            let mut state = self.lock();
            let who = seen.body.get("username").and_then(Value::as_str).map(|name| format!(" {name}"));
            let event = seen.line.replace("/team-a/files/api/v1", "");
            state.events.push(format!("{event}{}", who.unwrap_or_default()));
            state.log.push(seen.clone());
            let fault = state.faults.iter().find(|(on, _)| seen.line.contains(on)).map(|(_, fault)| *fault);
            let raw = match fault {
                None | Some(Fault::Slow) => state.answer(&seen),
                Some(_) => Vec::new(),
            };
            (fault, raw)
        };
        match fault {
            None => stream.write_all(&raw).await.ok()?,
            Some(Fault::Slow) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.write_all(&raw).await.ok()?;
            }
            Some(fault) => self.misbehave(fault, &seen, &mut stream).await?,
        }
        stream.shutdown().await.ok()
    }

    async fn misbehave(&self, fault: Fault, seen: &Seen, stream: &mut TcpStream) -> Option<()> {
        const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let forever = Duration::from_hours(1);
        let list = self.lock().adapters.to_string();
        let text = |status: u16, body: &str| plain(status, "application/json", body.as_bytes());
        let raw = match fault {
            Fault::Hang => {
                tokio::time::sleep(forever).await;
                return None;
            }
            Fault::HangInBody => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", list.len(), &list[..9]);
                stream.write_all(head.as_bytes()).await.ok()?;
                tokio::time::sleep(forever).await;
                return None;
            }
            Fault::Drip => {
                stream.write_all(CHUNKED).await.ok()?;
                loop {
                    stream.write_all(b"1\r\n \r\n").await.ok()?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Fault::Status(status @ (401 | 403)) => plain(status, "text/plain", b"no\n"),
            Fault::Status(status) => text(status, r#"{"title":"x","detail":"it broke"}"#),
            Fault::Garbage => text(200, "\u{1b}]0;<html>"),
            Fault::Empty => text(200, ""),
            Fault::Null => text(200, "null"),
            Fault::Half => text(200, &list[..list.len() / 2]),
            Fault::CutBody => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", list.len() + 9, list);
                head.into_bytes()
            }
            Fault::HalfChunked => {
                let chunk = format!("{:x}\r\n{list}\r\n", list.len());
                [CHUNKED, chunk.as_bytes()].concat()
            }
            Fault::Reset => {
                stream.set_zero_linger().ok()?;
                return None;
            }
            Fault::Close => Vec::new(),
            Fault::NotHttp => b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
            Fault::Redirect(status) => {
                let to = self.lock().redirect_to.clone();
                format!("HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
            }
            Fault::Huge => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n[").await.ok()?;
                tokio::time::sleep(forever).await;
                return None;
            }
            Fault::Endless => {
                stream.write_all(CHUNKED).await.ok()?;
                let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
                loop {
                    stream.write_all(&chunk).await.ok()?;
                }
            }
            Fault::EndlessHeaders => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
                loop {
                    stream.write_all(b"X-Again: and again and again and again\r\n").await.ok()?;
                }
            }
            Fault::GzipBomb => {
                let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n";
                [head.as_bytes(), &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]].concat()
            }
            Fault::Echo(status) => {
                let said = format!("{:?} {}", seen.headers, seen.body);
                text(status, &json!({ "title": said, "detail": said }).to_string())
            }
            Fault::EchoBody => text(200, &json!({ "access_token": [seen.body], "type": seen.headers }).to_string()),
            Fault::Slow => return None,
        };
        stream.write_all(&raw).await.ok()
    }
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Vec<u8> {
        let text = |field: &str| seen.body[field].as_str().unwrap_or_default().to_owned();
        let bearer = seen.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
        let is_admin = bearer.starts_with("canary-access-admin") && self.access.contains(bearer);
        let path = seen.line.replace("/team-a/files/api/v1", "");
        match path.as_str() {
            "POST /auth/login" if text("username").is_empty() => from_record("login-empty"),
            "POST /auth/login" => {
                let (name, password) = (text("username"), text("password"));
                let right = if name == "admin" { Some(&self.admin_password) } else { self.users.get(&name) };
                let off = self.accounts_off && name != "admin";
                if right == Some(&password) && !off { self.tokens(&name) } else { from_record("login-wrong-password") }
            }
            "POST /auth/refresh" => match text("refresh_token") {
                token if self.refresh.contains(&token) => self.tokens("k8s-operator"),
                _ => from_record("refresh-garbage"),
            },
            "GET /adapters" if bearer.is_empty() => from_record("list-adapters-no-token"),
            "GET /adapters" if !self.access.contains(bearer) => from_record("list-adapters-garbage-token"),
            "GET /adapters" => plain(200, "application/json", self.adapters.to_string().as_bytes()),
            "GET /team-a/files/health" => {
                let (status, content_type, mut body) = recorded("health");
                body["data"]["started_at"] = json!(self.started);
                plain(status, &content_type, body.to_string().as_bytes())
            }
            _ if !is_admin => from_record("nfs-settings-operator"),
            "POST /users" if self.users.contains_key(&text("username")) => from_record("create-operator-again"),
            "POST /users" if text("password").len() < self.password_min => from_record("create-operator-weak-password"),
            "POST /users" => {
                assert_eq!(text("role"), "operator");
                self.users.insert(text("username"), text("password"));
                from_record("create-operator")
            }
            "POST /users/k8s-operator/password" if text("new_password").len() < self.password_min => {
                from_record("create-operator-weak-password")
            }
            "POST /users/k8s-operator/password" => {
                self.users.insert("k8s-operator".to_owned(), text("new_password"));
                from_record("reset-operator-password")
            }
            other => panic!("an unexpected request: {other}"),
        }
    }

    fn tokens(&mut self, name: &str) -> Vec<u8> {
        self.tokens += 1;
        let (access, refresh) =
            (format!("canary-access-{name}-{}", self.tokens), format!("canary-refresh-{}", self.tokens));
        self.access.insert(access.clone());
        if name != "admin" {
            self.refresh.insert(refresh.clone());
        }
        let (status, content_type, mut body) = recorded("login-operator");
        body["access_token"] = json!(access);
        body["refresh_token"] = json!(refresh);
        body["expires_in"] = self.expires_in.clone();
        plain(status, &content_type, body.to_string().as_bytes())
    }
}

fn from_record(name: &str) -> Vec<u8> {
    let (status, content_type, body) = recorded(name);
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    plain(status, &content_type, body.as_bytes())
}

fn plain(status: u16, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n{length}Connection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}
