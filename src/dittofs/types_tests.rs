use serde_json::{Value, json};

use super::*;

const EXCHANGES: &str = include_str!("../../tests/fixtures/dittofs/exchanges.json");

fn adapter(adapter_type: &str, port: u16, enabled: bool, running: bool) -> ReportedAdapter {
    ReportedAdapter { adapter_type: adapter_type.to_owned(), port, enabled, running }
}

fn parse(body: &Value) -> Result<Vec<ReportedAdapter>, String> {
    parse_adapters(body.to_string().as_bytes())
}

#[test]
fn every_recorded_answer_is_read() {
    let exchanges: Vec<Value> = serde_json::from_str(EXCHANGES).expect("the fixture");
    let (mut lists, mut logins) = (0, 0);
    for exchange in &exchanges {
        let (name, response) = (&exchange["name"], &exchange["response"]);
        let body = response["body"].to_string();
        match (exchange["request"]["path"].as_str(), response["status"].as_u64()) {
            (Some("/api/v1/adapters" | "/api/v1/adapters/ports"), Some(200)) => {
                let adapters = parse_adapters(body.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(Some(adapters.len()), response["body"].as_array().map(Vec::len), "{name}");
                lists += 1;
            }
            (Some("/api/v1/auth/login" | "/api/v1/auth/refresh"), Some(200)) => {
                let tokens = parse_tokens(body.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(tokens.lifetime, Some(Duration::from_mins(15)), "{name}");
                assert_eq!(tokens.refresh, Some(Sensitive::new("<JWT>")), "{name}");
                logins += 1;
            }
            (Some("/api/v1/adapters"), Some(401)) | (Some("/api/v1/auth/login"), Some(400 | 401)) => {
                assert!(parse_adapters(body.as_bytes()).is_err() && parse_tokens(body.as_bytes()).is_err(), "{name}");
            }
            _ => {}
        }
    }
    assert_eq!((lists, logins), (7, 3), "the fixture holds what this test is about");
}

#[test]
fn the_recorded_lists_say_what_they_say() {
    let exchanges: Vec<Value> = serde_json::from_str(EXCHANGES).expect("the fixture");
    let list = |name: &str| {
        let exchange = exchanges.iter().find(|exchange| exchange["name"] == name).expect(name);
        parse(&exchange["response"]["body"]).expect(name)
    };
    let smb = adapter("smb", 1445, true, true);
    assert_eq!(list("list-adapters-operator"), [adapter("nfs", 12049, true, true), smb.clone()]);
    assert_eq!(list("list-adapters-nfs-disabled"), [adapter("nfs", 12049, false, false), smb.clone()]);
    assert_eq!(list("list-adapters-nfs-moved"), [adapter("nfs", 13049, true, true), smb]);
    assert_eq!(list("list-adapters-smb-deleted"), [adapter("nfs", 13049, true, true)]);
}

#[test]
fn an_empty_array_is_a_valid_answer() {
    assert_eq!(parse_adapters(b" [ ] \n"), Ok(vec![]));
}

#[test]
fn whatever_is_not_exactly_a_list_is_refused() {
    let good = r#"{"type":"nfs","enabled":true,"running":true,"port":1}"#;
    let half = format!("[{good},{{\"type\":\"smb\",");
    let trailing = format!("[{good}] x");
    let two = format!("[{good}][{good}]");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside = format!(r#"[{{"type":"nfs","x":{}1{}}}]"#, "[".repeat(10_000), "]".repeat(10_000));
    let in_object = format!(r#"{{"adapters":[{good}]}}"#);
    let twice = r#"[{"type":"nfs","enabled":true,"enabled":false,"running":true,"port":1}]"#;
    for (body, problem) in [
        ("", "ends too early"),
        ("null", "unknown shape"),
        ("{}", "unknown shape"),
        ("true", "unknown shape"),
        ("\"nfs\"", "unknown shape"),
        ("garbage", "no JSON"),
        ("<html></html>", "no JSON"),
        ("[null]", "unknown shape"),
        ("[1]", "unknown shape"),
        (half.as_str(), "ends too early"),
        (trailing.as_str(), "no JSON"),
        (two.as_str(), "no JSON"),
        (deep.as_str(), "the answer"),
        (deep_inside.as_str(), "the answer"),
        (in_object.as_str(), "unknown shape"),
        (twice, "unknown shape"),
    ] {
        let shown: String = body.chars().take(60).collect();
        let error = parse_adapters(body.as_bytes()).expect_err(&shown);
        assert!(error.contains(problem), "{shown}: {error}");
    }
    assert!(parse_adapters(b"[\"\xff\"]").is_err());
}

#[test]
fn each_field_of_an_adapter_is_checked() {
    let good = json!({ "type": "nfs", "enabled": true, "running": true, "port": 12049 });
    assert_eq!(parse(&json!([good])), Ok(vec![adapter("nfs", 12049, true, true)]));
    for (field, value, problem) in [
        ("type", json!(null), "type is missing"),
        ("type", json!(7), "type is missing"),
        ("type", json!(["nfs"]), "type is missing"),
        ("type", json!(""), "type is not 1 to 253"),
        ("type", json!("x".repeat(254)), "type is not 1 to 253"),
        ("type", json!("\u{1b}[31mred"), "type has a control character ([31mred)"),
        ("enabled", json!(null), "enabled is missing"),
        ("enabled", json!("true"), "enabled is missing"),
        ("enabled", json!(1), "enabled is missing"),
        ("running", json!({ "a": [1] }), "running is missing"),
        ("running", json!(0), "running is missing"),
        ("port", json!(null), "port is missing"),
        ("port", json!("12049"), "port is missing"),
        ("port", json!(-1), "port is missing"),
        ("port", json!(1.5), "port is missing"),
        ("port", json!(1e300), "port is missing"),
        ("port", json!(0), "port is 0"),
        ("port", json!(65_536), "port is above 65535"),
        ("port", json!(u64::MAX), "port is above 65535"),
    ] {
        let mut entry = good.clone();
        entry[field] = value.clone();
        let error = parse(&json!([{ "type": "smb", "enabled": false, "running": false, "port": 1 }, entry]))
            .expect_err(&format!("{field} {value}"));
        assert!(error.starts_with("adapter 2 of the answer: "), "{error}");
        assert!(error.contains(problem), "{field} {value}: {error}");
    }
    for field in ["type", "enabled", "running", "port"] {
        let mut entry = good.clone();
        entry.as_object_mut().expect("an object").remove(field);
        let error = parse(&json!([entry])).expect_err(field);
        assert!(error.contains(&format!("{field} is missing")), "{error}");
    }
}

#[test]
fn port_0_is_taken_only_from_an_adapter_that_neither_runs_nor_is_to_run() {
    let entry = |enabled, running| json!([{ "type": "nfs", "enabled": enabled, "running": running, "port": 0 }]);
    assert_eq!(parse(&entry(false, false)), Ok(vec![adapter("nfs", 0, false, false)]));
    for (enabled, running) in [(true, false), (false, true), (true, true)] {
        assert!(parse(&entry(enabled, running)).is_err(), "{enabled} {running}");
    }
}

#[test]
fn a_type_that_comes_twice_is_an_error_that_names_it() {
    let nfs = |port| json!({ "type": "nfs", "enabled": true, "running": true, "port": port });
    let error = parse(&json!([nfs(1), nfs(2)])).expect_err("a duplicate");
    assert_eq!(error, "adapter type \"nfs\" is listed twice");
}

#[test]
fn more_than_256_adapters_are_too_many() {
    let entries = |count: usize| {
        let entry = |n| json!({ "type": format!("t{n}"), "enabled": true, "running": true, "port": 1 });
        json!((0..count).map(entry).collect::<Vec<_>>())
    };
    assert_eq!(parse(&entries(256)).map(|adapters| adapters.len()), Ok(256));
    let error = parse(&entries(257)).expect_err("too many");
    assert!(error.contains("257 adapters"), "{error}");
    assert!(parse_adapters(format!("[{}1]", "1,".repeat(400_000)).as_bytes()).is_err());
}

#[test]
fn fields_that_are_not_known_are_ignored() {
    let entry = json!({
        "type": "nfs", "enabled": false, "running": false, "port": 1,
        "status": { "status": "healthy" }, "new": [{ "deep": [1, 2.5, null] }], "": true,
    });
    assert_eq!(parse(&json!([entry])), Ok(vec![adapter("nfs", 1, false, false)]));
}

#[test]
fn tokens_that_cannot_be_used_are_refused_and_not_quoted() {
    let with = |access: Value, refresh: Value| {
        parse_tokens(json!({ "access_token": access, "refresh_token": refresh }).to_string().as_bytes())
    };
    assert!(with(json!("canary"), json!("canary")).is_ok());
    assert_eq!(with(json!("a"), json!(null)).expect("no refresh token").refresh, None);
    assert_eq!(with(json!("a"), json!("")).expect("an empty one").refresh, None);
    for (access, refresh) in [
        (json!(""), json!("a")),
        (json!("canary\r\nX: y"), json!("a")),
        (json!("canary\u{e9}"), json!("a")),
        (json!("canary canary"), json!("a")),
        (json!("canary".repeat(10_000)), json!("a")),
        (json!("a"), json!("canary\n")),
        (json!({ "canary": 1 }), json!("a")),
        (json!(null), json!("canary")),
        (json!("a"), json!(["canary"])),
    ] {
        let error = with(access, refresh).expect_err("a bad token");
        assert!(!error.contains("canary"), "{error}");
    }
    for body in ["", "null", "[]", "canary", r#"{"access_token":"canary"#, "\"canary\""] {
        let error = parse_tokens(body.as_bytes()).expect_err(body);
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn a_lifetime_that_is_no_lifetime_is_an_unknown_one() {
    let lifetime = |expires_in: Value| {
        let body = json!({ "access_token": "a", "refresh_token": "b", "expires_in": expires_in }).to_string();
        parse_tokens(body.as_bytes()).expect("tokens").lifetime
    };
    assert_eq!(lifetime(json!(900)), Some(Duration::from_mins(15)));
    assert_eq!(lifetime(json!(i64::MAX)), Some(Duration::from_secs(i64::MAX.unsigned_abs())));
    for unknown in [json!(0), json!(-5), json!(null)] {
        assert_eq!(lifetime(unknown), None);
    }
}
