//! The stand-in against the recorded exchanges of a real DittoFS server: each request in its order, each answer
//! compared by status, content type and body. What differs from run to run (tokens, ids, stamps, uptime) is compared
//! by its shape; an id has to be the same one wherever the recording repeats it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dittofs_testbed::dittofs::StandIn;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/dittofs/exchanges.json");

/// How many exchanges were recorded: a recording that lost some proves less than it says.
const RECORDED: usize = 37;

#[derive(Deserialize)]
struct Exchange {
    name: String,
    request: Asked,
    response: Answer,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    authorization: Option<String>,
    body: Option<Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Answer {
    status: u16,
    content_type: Option<String>,
    body: Value,
}

/// Numbers ids in the order in which they are first seen, so that two runs with different ids compare equal exactly
/// when they repeat them alike.
#[derive(Default)]
struct Shapes {
    ids: HashMap<String, usize>,
}

impl Shapes {
    fn of(&mut self, value: Value) -> Result<Value> {
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.of(item)).collect(),
            Value::Object(fields) => self.of_object(fields),
            other => Ok(other),
        }
    }

    fn of_object(&mut self, fields: Map<String, Value>) -> Result<Value> {
        let unchanged = fields.get("updated_at").map(|updated| Some(updated) == fields.get("created_at"));
        let shape = |(key, value): (String, Value)| -> Result<(String, Value)> {
            let value = match (key.as_str(), value) {
                ("id", Value::String(id)) => {
                    let next = self.ids.len();
                    json!(format!("id {}", self.ids.entry(id).or_insert(next)))
                }
                ("access_token" | "refresh_token", Value::String(token)) => json!(token_shape(&token)?),
                ("updated_at", Value::String(at)) => json!(format!("{}, unchanged: {unchanged:?}", stamp(&at)?)),
                ("uptime", Value::String(uptime)) if uptime.ends_with('s') => json!("a duration"),
                ("uptime_sec", Value::Number(_)) => json!("a number"),
                (key, Value::String(at)) if key == "timestamp" || key.ends_with("_at") || key == "last_login" => {
                    json!(stamp(&at)?)
                }
                (_, value) => self.of(value)?,
            };
            Ok((key, value))
        };
        fields.into_iter().map(shape).collect::<Result<Map<_, _>>>().map(Value::Object)
    }
}

fn stamp(at: &str) -> Result<&'static str> {
    at.parse::<Timestamp>().with_context(|| format!("{at} is no time"))?;
    if at.ends_with('Z') { Ok("a time") } else { bail!("{at} is not in UTC") }
}

/// The recording has `<JWT>` for every token.
fn token_shape(token: &str) -> Result<&'static str> {
    let is_jwt = token.starts_with("eyJ") && token.split('.').count() == 3;
    if is_jwt || token == "<JWT>" { Ok("a token") } else { bail!("a token that is no JWT") }
}

/// The tokens that the recorded names stand for.
#[derive(Default)]
struct Sessions {
    access: HashMap<String, String>,
    refresh: String,
}

impl Sessions {
    fn authorization(&self, recorded: &str) -> Result<String> {
        match recorded {
            "Bearer <admin>" => Ok(format!("Bearer {}", self.access["admin"])),
            "Bearer <operator>" => Ok(format!("Bearer {}", self.access["k8s-operator"])),
            "Bearer <other>" => Ok("Bearer garbage".to_owned()),
            other => bail!("the recording has an authorization of a new kind: {other}"),
        }
    }

    /// Keeps the tokens of a login; the recording refreshes with those of the last one.
    fn learn(&mut self, body: &Value) {
        if let (Some(user), Some(access)) = (body["user"]["username"].as_str(), body["access_token"].as_str()) {
            self.access.insert(user.to_owned(), access.to_owned());
            body["refresh_token"].as_str().unwrap_or_default().clone_into(&mut self.refresh);
        }
    }
}

async fn replay(client: &Client, base: &str, asked: &Asked, sessions: &Sessions) -> Result<Answer> {
    let method: Method = asked.method.parse()?;
    let mut request = client.request(method, format!("{base}{}", asked.path));
    if let Some(recorded) = &asked.authorization {
        request = request.header(AUTHORIZATION, sessions.authorization(recorded)?);
    }
    if let Some(body) = &asked.body {
        let mut body = body.clone();
        if body["refresh_token"] == "<JWT>" {
            body["refresh_token"] = json!(sessions.refresh);
        }
        request = request.json(&body);
    } else if asked.method == "POST" {
        // The recorder could not write a body down that is no JSON.
        request = request.header(CONTENT_TYPE, "application/json").body("{not json");
    }
    let response = request.send().await?;
    let content_type = match response.headers().get(CONTENT_TYPE) {
        Some(content_type) => Some(content_type.to_str()?.to_owned()),
        None => None,
    };
    let status = response.status().as_u16();
    let text = response.text().await?;
    let is_json = content_type.as_ref().is_some_and(|content_type| content_type.contains("json"));
    let body = if is_json { serde_json::from_str(&text)? } else { Value::String(text) };
    Ok(Answer { status, content_type, body })
}

#[tokio::test]
async fn every_recorded_request_is_answered_as_the_real_server_did() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let exchanges: Vec<Exchange> = serde_json::from_str(&std::fs::read_to_string(RECORDING)?)?;
    assert_eq!(exchanges.len(), RECORDED);

    let stand_in = StandIn::start().await?;
    let server = stand_in.server("team", "files");
    let login = exchanges.iter().find(|exchange| exchange.name == "login-admin").context("no login of the admin")?;
    let password = login.request.body.as_ref().and_then(|body| body["password"].as_str()).context("no password")?;
    server.set_admin("admin", password);
    // In the recording the adapter that was made runs by the next request but one.
    server.set_start_delay(Duration::ZERO);

    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let (mut sessions, mut recorded_shapes, mut shapes) = (Sessions::default(), Shapes::default(), Shapes::default());
    let mut differing = Vec::new();
    for Exchange { name, request, response: mut recorded } in exchanges {
        let base = stand_in.url("team", "files");
        let mut answer = replay(&client, &base, &request, &sessions).await.with_context(|| name.clone())?;
        sessions.learn(&answer.body);
        answer.body = shapes.of(answer.body).with_context(|| name.clone())?;
        recorded.body = recorded_shapes.of(recorded.body).with_context(|| name.clone())?;
        if answer != recorded {
            differing.push(format!("{name}\n  recorded {recorded:?}\n  answered {answer:?}"));
        }
    }
    assert!(differing.is_empty(), "{} of {RECORDED} differ:\n{}", differing.len(), differing.join("\n"));
    assert_eq!(server.requests().len(), RECORDED);
    Ok(())
}
