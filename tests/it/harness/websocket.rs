//! Both ends of a websocket: a backend that speaks OpenAI's realtime events, and a client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::{client, server};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use super::raw_backend::RawBackend;

pub type Socket = WebSocketStream<TcpStream>;

/// How long a test waits for what must come; only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tokens in and out of every response of [`Brain`].
pub const INPUT: u64 = 11;
pub const OUTPUT: u64 = 7;

/// A backend of realtime conversations; it remembers every handshake and every event.
pub struct Brain {
    pub raw: RawBackend,
    heads: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<Value>>>,
    ends: Arc<Mutex<Vec<Option<u16>>>>,
}

impl Brain {
    #[expect(clippy::result_large_err, reason = "tungstenite's own type")]
    pub fn start() -> Self {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let ends: Arc<Mutex<Vec<Option<u16>>>> = Arc::default();
        let (note, heard, ended) = (Arc::clone(&heads), Arc::clone(&events), Arc::clone(&ends));
        let raw = RawBackend::start(move |stream, _| {
            let (note, heard, ended) = (Arc::clone(&note), Arc::clone(&heard), Arc::clone(&ended));
            async move {
                let note = |request: &server::Request, mut response: server::Response| {
                    note.lock().unwrap().push(format!("{request:?}"));
                    let offered = request.headers().get("sec-websocket-protocol").and_then(|v| v.to_str().ok());
                    if offered.is_some_and(|offered| offered.split(", ").any(|name| name == "realtime")) {
                        response.headers_mut().insert("sec-websocket-protocol", "realtime".parse().expect("a value"));
                    }
                    response.headers_mut().insert("openai-version", "2020-10-01".parse().expect("a value"));
                    Ok(response)
                };
                let Ok(socket) = accept_hdr_async(stream, note).await else { return };
                let end = think(socket, &heard).await;
                ended.lock().unwrap().push(end);
            }
        });
        Self { raw, heads, events, ends }
    }

    pub fn address(&self) -> SocketAddr {
        self.raw.address
    }

    /// The handshakes so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// The types of the events so far.
    pub fn kinds(&self) -> Vec<String> {
        self.events().iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The close code of each connection that has ended; `None` where there was none.
    pub async fn ended(&self, count: usize) -> Vec<Option<u16>> {
        let ended = async {
            loop {
                let ends = self.ends.lock().unwrap().clone();
                if ends.len() >= count {
                    return ends;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("connections to the backend that never end")
    }
}

pub fn usage() -> Value {
    json!({
        "total_tokens": INPUT + OUTPUT, "input_tokens": INPUT, "output_tokens": OUTPUT,
        "input_token_details": { "cached_tokens": 4, "text_tokens": 6, "audio_tokens": 5 },
        "output_token_details": { "text_tokens": 3, "audio_tokens": 4 },
    })
}

fn begun(id: &str) -> Vec<Value> {
    vec![
        json!({ "type": "response.created", "response": { "id": id, "status": "in_progress" } }),
        json!({ "type": "response.output_text.delta", "response_id": id, "delta": "nine more" }),
    ]
}

fn done(id: &str, status: &str, usage: Value) -> Value {
    json!({ "type": "response.done", "response": { "id": id, "status": status, "usage": usage } })
}

/// What is said for a `response.create`, as that asks for.
fn response(id: &str, event: &Value) -> Vec<Value> {
    // Some name them all alike.
    let id = if event["response"]["metadata"]["id"] == "same" { "resp_same" } else { id };
    let whole = |status, usage| [begun(id), vec![done(id, status, usage)]].concat();
    match event["response"]["metadata"]["do"].as_str() {
        Some("hold") => begun(id),
        Some("refuse") => vec![json!({
            "type": "error",
            "error": { "code": "conversation_already_has_active_response", "event_id": event["event_id"] },
        })],
        Some("fail") => vec![begun(id).remove(0), done(id, "failed", Value::Null)],
        Some("fail late") => whole("failed", Value::Null),
        Some("twice") => {
            let (once, end) = (whole("completed", usage()), done(id, "completed", usage()));
            [once[..1].to_vec(), once, vec![end]].concat()
        }
        Some("silent") => whole("completed", Value::Null),
        _ => whole("completed", usage()),
    }
}

/// Answers what it is told to; gives the code it was closed with.
async fn think(mut socket: Socket, heard: &Mutex<Vec<Value>>) -> Option<u16> {
    let mut count = 0;
    while let Some(Ok(message)) = socket.next().await {
        let event: Value = match message {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON alone comes here"),
            Message::Close(frame) => {
                // Its own goodbye is sent with this.
                let _ = socket.flush().await;
                return frame.map(|frame| u16::from(frame.code));
            }
            _ => continue,
        };
        heard.lock().unwrap().push(event.clone());
        count += 1;
        let id = format!("resp_{count}");
        let answers = match event["type"].as_str().unwrap_or_default() {
            "response.create" if event["response"]["metadata"]["do"] == "vanish" => {
                for event in begun(&id) {
                    let _ = socket.send(Message::text(event.to_string())).await;
                }
                return None;
            }
            "response.create" => response(&id, &event),
            "response.cancel" => {
                vec![done(event["response_id"].as_str().unwrap_or_default(), "cancelled", usage())]
            }
            "test.speak" => [begun(&id), vec![done(&id, "completed", usage())]].concat(),
            "test.begin" => begun(&id),
            "session.update" if event["session"]["voice"] == "unheard" => {
                vec![json!({ "type": "error", "error": { "code": "invalid_value", "event_id": event["event_id"] } })]
            }
            "session.update" => {
                vec![json!({ "type": "session.updated", "session": event["session"], "of": event })]
            }
            "test.transcribe" if event["silent"] == true => vec![json!({
                "type": "conversation.item.input_audio_transcription.completed", "transcript": "nine more",
            })],
            "test.transcribe" => vec![json!({
                "type": "conversation.item.input_audio_transcription.completed",
                "usage": { "type": "tokens", "total_tokens": 26, "input_tokens": 17, "output_tokens": 9 },
            })],
            "test.bye" => {
                let _ = socket.close(Some(CloseFrame { code: 4001.into(), reason: "enough".into() })).await;
                continue;
            }
            "test.mask" => {
                use tokio::io::AsyncWriteExt;
                let _ = socket.get_mut().write_all(b"\x81\x81\0\0\0\0a").await;
                continue;
            }
            _ => vec![json!({ "type": "echo", "of": event })],
        };
        for event in answers {
            if socket.send(Message::text(event.to_string())).await.is_err() {
                return None;
            }
        }
    }
    None
}

/// A client's side.
pub struct Talker {
    pub socket: Socket,
    pub answer: client::Response,
}

impl Talker {
    /// Opens a websocket at `path` with further headers.
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, String)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        let opening = timeout(PATIENCE, client_async(request, stream)).await.expect("an answer in 20 s");
        let (socket, answer) = opening.expect("a websocket");
        Self { socket, answer }
    }

    /// The usual one.
    pub async fn with_key(address: SocketAddr, key: &str) -> Self {
        Self::open(address, "/v1/realtime?model=gpt-realtime", &[("authorization", format!("Bearer {key}"))]).await
    }

    pub fn request_id(&self) -> String {
        self.answer.headers()["x-request-id"].to_str().expect("text").to_owned()
    }

    pub async fn say(&mut self, event: Value) {
        self.send(Message::text(event.to_string())).await;
    }

    pub async fn send(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    /// The next event.
    pub async fn hear(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("an event"),
            other => panic!("no event: {other:?}"),
        }
    }

    /// The next message of any kind.
    pub async fn next(&mut self) -> Message {
        timeout(PATIENCE, self.socket.next()).await.expect("nothing came in 20 s").expect("a message").expect("a frame")
    }

    /// Asks for a response and hears its events.
    pub async fn turn(&mut self) -> Vec<String> {
        self.say(json!({ "type": "response.create" })).await;
        self.until("response.done").await
    }

    /// Hears events up to one of this type, or an error.
    pub async fn until(&mut self, kind: &str) -> Vec<String> {
        let mut kinds = Vec::new();
        loop {
            let event = self.hear().await;
            let heard = event["type"].as_str().expect("a type").to_owned();
            kinds.push(heard.clone());
            if heard == kind {
                return kinds;
            }
            assert_ne!(heard, "error", "{event}");
        }
    }

    /// The code of the close that comes, past everything else, and the last event before it.
    pub async fn closed(&mut self) -> (Option<u16>, Option<Value>) {
        let mut last = None;
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("no end in 20 s") {
                Some(Ok(Message::Close(frame))) => return (frame.map(|frame| frame.code.into()), last),
                Some(Ok(Message::Text(text))) => last = serde_json::from_str(&text).ok(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (None, last),
            }
        }
    }
}
