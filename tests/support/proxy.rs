//! A server in front of an emulated account: it answers what a test says, and passes everything else on byte by byte.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]
#![allow(clippy::pedantic, reason = "test support reads better plain")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use ciborium::Value as Cbor;
use serde_json::json;

/// One request, as far as an answer rests on it.
#[derive(Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The action as IAM policies spell it, in whichever of AWS's protocols the request is.
    pub fn action(&self) -> String {
        let header = |name: &str| self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        let service = self.head.split("/aws4_request").next().unwrap().rsplit('/').next().unwrap();
        let service = if service == "monitoring" { "cloudwatch" } else { service };
        let operation = if let Some(target) = header("x-amz-target: ") {
            target.rsplit('.').next().unwrap().to_owned()
        } else if let Some((_, operation)) = self.path().split_once("/operation/") {
            operation.to_owned()
        } else if let Some(action) = self.form("Action") {
            action
        } else {
            // Lambda has no name of the action in its requests.
            let method = match self.head.split(' ').next() {
                Some("GET") => "Get",
                other => panic!("the command does not {other:?}"),
            };
            let name = match self.path().rsplit('/').next().unwrap() {
                "configuration" => "FunctionConfiguration",
                "concurrency" => "FunctionConcurrency",
                "event-invoke-config" => "FunctionEventInvokeConfig",
                "policy" => "Policy",
                other => panic!("{other} of Lambda"),
            };
            format!("{method}{name}")
        };
        format!("{service}:{operation}")
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// A parameter of the query protocol.
    pub fn form(&self, key: &str) -> Option<String> {
        url::form_urlencoded::parse(&self.body).find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
    }

    /// All parameters of the query protocol whose names begin so.
    pub fn form_list(&self, prefix: &str) -> Vec<String> {
        let all = url::form_urlencoded::parse(&self.body).filter(|(name, _)| name.starts_with(prefix));
        all.map(|(_, value)| value.into_owned()).collect()
    }
}

/// An answer: status, further headers, body. Status 0 closes the connection without one.
pub type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

pub fn reply(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
    (status, vec![("Content-Type", content_type.to_owned())], body.into())
}

/// What a call is answered that the credentials do not allow, in whichever protocol the request is.
pub fn denied(request: &Request) -> Reply {
    const CODE: &str = "AccessDeniedException";
    if request.form("Action").is_some() {
        let error =
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>";
        return reply(403, "text/xml", error);
    }
    if request.path().contains("/operation/") {
        return cbor(403, &json!({ "__type": CODE, "message": "not authorized" }));
    }
    let headers = vec![("Content-Type", "application/json".to_owned()), ("x-amzn-ErrorType", CODE.to_owned())];
    (403, headers, format!(r#"{{"__type": "{CODE}", "message": "not authorized"}}"#).into_bytes())
}

/// An answer in the protocol of CloudWatch.
pub fn cbor(status: u16, body: &serde_json::Value) -> Reply {
    let headers = vec![("Content-Type", "application/cbor".to_owned()), ("smithy-protocol", "rpc-v2-cbor".to_owned())];
    let mut bytes = Vec::new();
    ciborium::into_writer(&to_cbor("", body), &mut bytes).unwrap();
    (status, headers, bytes)
}

/// Tag 1 makes a number of seconds a time.
fn to_cbor(key: &str, value: &serde_json::Value) -> Cbor {
    match value {
        serde_json::Value::Null => Cbor::Null,
        serde_json::Value::Bool(value) => Cbor::Bool(*value),
        serde_json::Value::Number(number) if key.contains("Timestamp") => {
            Cbor::Tag(1, Box::new(Cbor::Float(number.as_f64().unwrap())))
        }
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Cbor::Integer(number.into()),
            None => Cbor::Float(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => Cbor::Text(text.clone()),
        serde_json::Value::Array(items) => Cbor::Array(items.iter().map(|item| to_cbor(key, item)).collect()),
        serde_json::Value::Object(pairs) => {
            Cbor::Map(pairs.iter().map(|(key, value)| (Cbor::Text(key.clone()), to_cbor(key, value))).collect())
        }
    }
}

fn from_cbor(value: Cbor) -> serde_json::Value {
    match value {
        Cbor::Null => serde_json::Value::Null,
        Cbor::Bool(value) => value.into(),
        Cbor::Integer(number) => i64::try_from(number).unwrap().into(),
        Cbor::Float(number) => number.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Tag(_, value) => from_cbor(*value),
        Cbor::Array(items) => items.into_iter().map(from_cbor).collect(),
        Cbor::Map(pairs) => {
            pairs.into_iter().map(|(key, value)| (key.into_text().unwrap(), from_cbor(value))).collect()
        }
        other => panic!("CloudWatch sends no {other:?}"),
    }
}

/// A call of CloudWatch in the protocol that the emulator speaks; status and answer.
pub fn cloudwatch(port: u16, action: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    let body = body.to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.0\r\nX-Amz-Target: \
         GraniteServiceVersion20100801.{action}\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=test/20260101/us-east-1/monitoring/aws4_request, SignedHeaders=host, Signature=0\r\n\
         Content-Length: {}",
        body.len()
    );
    let answer = pass_on(port, &Request { head, body: body.into_bytes() });
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

/// moto does not speak CBOR: the request is translated, and so is its answer.
fn translated(port: u16, request: &Request) -> Reply {
    let body: Cbor = ciborium::from_reader(request.body.as_slice()).unwrap();
    let (status, answer) = cloudwatch(port, request.path().rsplit('/').next().unwrap(), &from_cbor(body));
    cbor(status, &answer)
}

/// Starts the server; its URL. `answer` gives `None` for what is passed on to `port`.
pub fn start(port: u16, answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || serve(stream, port, &*answer));
        }
    });
    url
}

fn serve(mut stream: TcpStream, port: u16, answer: &dyn Fn(&Request) -> Option<Reply>) {
    let Some(request) = read(&mut stream) else { return };
    let is_cbor = request.path().contains("/operation/");
    let bytes = match answer(&request).or_else(|| is_cbor.then(|| translated(port, &request))) {
        Some((0, _, _)) => return,
        Some((status, headers, body)) => {
            let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            [head.as_bytes(), b"\r\n", &body].concat()
        }
        None => pass_on(port, &request),
    };
    let _ = stream.write_all(&bytes);
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut part = [0; 65_536];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            });
            if bytes.len() >= end + 4 + length.unwrap_or_default() {
                return Some(Request { head, body: bytes.split_off(end + 4) });
            }
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// Each connection serves one request: what the client keeps open would be closed under it.
fn pass_on(port: u16, request: &Request) -> Vec<u8> {
    let other = |head: &str| {
        let lines = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        lines.collect::<Vec<_>>().join("\r\n") + "\r\nConnection: close\r\n\r\n"
    };
    let mut upstream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    upstream.write_all(&[other(&request.head).as_bytes(), &request.body].concat()).unwrap();
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let head = other(&String::from_utf8_lossy(&answer[..end]));
    [head.as_bytes(), answer.get(end + 4..).unwrap_or_default()].concat()
}
