//! What is said on a websocket, as the limits and the ledger see it: every response is a call of its own, paid for before it is asked for.
//! What the backend begins unasked (it hears that somebody has finished speaking) is charged all the same, and cancelled where it
//! would have been refused.

mod terms;
mod unasked;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::admission::{self, Admitted};
use crate::dialect::realtime::{self, Asked, Bound, Event, Heard, Said, Told};
use crate::dialect::{self, Notes};
use crate::ledger::Outcome;
use crate::policy::{
    self, BodyFlaw, Charge, CutReason, Endpoint, Estimate, OnDisconnect, Price, Refusal, RequestFacts,
};
use crate::proxy::account::Account;
use crate::proxy::allowance::Allowance;
use crate::proxy::answer;
use crate::proxy::plane::{Live, Worker};
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics::Reason;
use crate::units::{ModelName, Tokens};
use crate::upstream::route::Way;
use terms::Terms;

/// Responses at once on one websocket.
const MOST_TURNS: u32 = 32;
/// The same with those that the upstream has begun unasked.
const MOST_TURNS_UNASKED: usize = 128;

/// Responses that have ended whose ids are known: what is told of them again costs nothing more.
const MOST_ENDED: usize = 16;

/// Messages that may be refused, at once and for each second: each costs a client less than us its answer.
const MOST_REFUSED: u32 = 32;
const REFUSED_PER_SECOND: u64 = 1;

/// What becomes of a client's message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// This goes upstream.
    Pass(Bytes),
    /// It does not; the client is told why.
    Refuse(Bytes),
    /// The same, and the connection ends: its key works no longer.
    End(Bytes),
    /// Too many were refused: the connection ends.
    Leave,
}

/// A call that would not have been allowed, and was begun all the same.
#[derive(Debug)]
pub(super) struct Interrupt {
    /// What the upstream is told, where it may still leave off.
    pub(super) cancel: Option<Bytes>,
    /// What the client is told.
    pub(super) error: Bytes,
    /// It was one too many: the connection ends.
    pub(super) is_last: bool,
}

/// The calls within one websocket.
#[derive(Debug)]
pub(super) struct Conversation {
    turns: Vec<Turn>,
    worker: Rc<Worker>,
    /// The websocket's own place in its key's limits.
    open: Admitted,
    way: Way,
    /// As the client wrote it.
    model: ModelName,
    request_id: Box<str>,
    /// Calls so far: each has a number behind the websocket's id.
    calls: u64,
    /// The client's events to which an id was given.
    events: u64,
    /// Tokens of the conversation as the last response reported it, itself included.
    told: Tokens,
    /// What was put into it since.
    said: Said,
    /// The most output that a response may have, where the session says.
    terms: Terms,
    /// The model that writes down what is said, as the client last asked for it, and as the backend said that it is.
    asked_scribe: Option<ModelName>,
    told_scribe: Option<ModelName>,
    /// Calls in a row that nobody asked for and that the limits refused.
    beyond: u32,
    /// The ids of the responses that have ended last.
    ended: VecDeque<Box<str>>,
    /// How many of the client's messages may still be refused.
    refusable: Allowance,
    /// What was under way has been charged: what is still told of it costs nothing more.
    is_over: bool,
}

/// A response under way.
#[derive(Debug)]
struct Turn {
    account: Box<Account>,
    /// The event that asked for it; `None` where nobody did.
    event: Option<Box<str>>,
    /// Its id, once it has begun.
    response: Option<Box<str>>,
    heard: Heard,
    prompt: Tokens,
    /// What had been said when it was asked for.
    said: Said,
    /// What it reports to have read is not the conversation.
    is_apart: bool,
}

impl Conversation {
    pub(super) fn new(worker: &Rc<Worker>, open: Admitted, way: Way, model: ModelName, request_id: Box<str>) -> Self {
        Self {
            turns: Vec::new(),
            worker: Rc::clone(worker),
            open,
            way,
            model,
            request_id,
            calls: 0,
            events: 0,
            told: 0,
            said: Said::default(),
            terms: Terms::default(),
            asked_scribe: None,
            told_scribe: None,
            beyond: 0,
            ended: VecDeque::new(),
            refusable: Allowance::new(MOST_REFUSED, REFUSED_PER_SECOND, worker.plane.clock.monotonic_ns()),
            is_over: false,
        }
    }

    /// How long neither side need say anything.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.way.upstream.settings.idle_timeout
    }

    /// Whether no response is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }

    /// Whether what is under way is to be read to its end without a client.
    pub(super) fn reads_on(&self) -> bool {
        let policy = self.open.caller().refreshed();
        !self.is_idle() && policy.policy().on_disconnect == OnDisconnect::Drain
    }

    /// Decides a client's message.
    pub(super) fn asked(&mut self, payload: &Bytes) -> Verdict {
        let event = match Event::read(payload) {
            Ok(event) => event,
            Err(flaw) => return self.refuse(&Refusal::Body(flaw), None, false),
        };
        let rename = self.way.rename.clone();
        let rename = rename.as_ref().map(ModelName::as_str);
        if let Some(own) = &event.own_model
            && *own != self.model
            && Some(own.as_str()) != rename
        {
            return self.refuse(&Refusal::Body(BodyFlaw::ModelDisagrees), event.id.as_deref(), false);
        }
        let live = self.worker.live();
        let mut said = self.said;
        said.add(event.said);
        let prompt = self.told.saturating_add(said.tokens());
        let stated = if event.is_endless { None } else { event.output.or_else(|| self.bound()) };
        let estimate = self.estimate(prompt, stated);
        let facts = self.facts(event.other_models.clone(), estimate);
        let charge = match self.authorize(&live, &facts) {
            Ok(charge) => charge,
            Err(refusal) => return self.refuse(&refusal, event.id.as_deref(), event.asked == Asked::Response),
        };
        let mut id = None;
        if event.asked == Asked::Response {
            if self.turns.len() >= MOST_TURNS as usize {
                return self.refuse(&Refusal::TooManyParallel { limit: MOST_TURNS }, event.id.as_deref(), true);
            }
            let now = self.worker.plane.clock.now();
            let clock = &self.worker.plane.clock;
            match admission::admit_within(&self.open, facts, charge, &live.limits, clock, now) {
                Ok(admitted) => {
                    let named = self.named(&event);
                    id = Some(named.clone());
                    self.beyond = 0;
                    self.begin(admitted, prompt, said, Some(named));
                    if let Some(turn) = self.turns.last_mut() {
                        turn.is_apart = event.is_apart;
                    }
                }
                Err(refusal) => return self.refuse(&refusal, event.id.as_deref(), true),
            }
        } else if event.asked == Asked::Session {
            let named = self.named(&event);
            let bound = if event.is_endless { Some(Bound::None) } else { event.output.map(Bound::Tokens) };
            self.terms.ask(named.clone(), bound, self.usual_output());
            id = Some(named);
            self.asked_scribe = event.other_models.last().cloned().or(self.asked_scribe.take());
        }
        self.said = said;
        Verdict::Pass(event.render(payload, rename, id.as_deref()))
    }

    /// Takes note of an upstream's message.
    pub(super) fn told(&mut self, payload: &[u8]) -> Option<Interrupt> {
        if self.is_over {
            return None;
        }
        match realtime::told(payload) {
            Told::Begun { response } => return self.begun(response),
            Told::Piece { response, text, sound } => {
                if let Some(turn) = self.turns.iter_mut().find(|turn| turn.response.as_ref() == Some(&response)) {
                    turn.heard.add(text, sound);
                }
            }
            Told::Done { response, usage, has_failed } => self.done(&response, usage.as_deref(), has_failed),
            Told::Session { scribe, output, is_update } => {
                self.told_scribe = scribe.as_deref().and_then(ModelName::new);
                if is_update {
                    self.terms.updated(output);
                } else {
                    self.terms.tell(output);
                }
            }
            Told::Transcribed { usage, text } => return self.transcribed(usage.as_deref(), text),
            Told::Refused { event } => {
                let asked = |turn: &Turn| turn.response.is_none() && turn.event.as_ref() == Some(&event);
                if let Some(at) = self.turns.iter().position(asked) {
                    self.turns.remove(at).account.refused_upstream();
                }
                self.terms.refused(&event);
            }
            Told::Other => {}
        }
        None
    }

    /// Charges what is under way with what was heard of it, because of `reason`: the end.
    pub(super) fn cut(&mut self, reason: &'static str) {
        self.is_over = true;
        for turn in self.turns.drain(..) {
            turn.end(Some(reason));
        }
    }

    /// A response has begun: the one asked for first, or one that nobody asked for.
    fn begun(&mut self, response: Box<str>) -> Option<Interrupt> {
        if !response.is_empty() && self.place_of(&response).is_some() {
            return None;
        }
        // Some backends name them all alike.
        self.ended.retain(|ended| *ended != response);
        if let Some(turn) = self.turns.iter_mut().find(|turn| turn.response.is_none()) {
            let line = &mut turn.account.line;
            line.first_byte_ns = Some(line.elapsed_ns());
            turn.response = Some(response);
            return None;
        }
        if self.turns.len() >= MOST_TURNS_UNASKED {
            // Only an upstream that is broken begins so many and ends none.
            self.turns.remove(0).end(Some(CutReason::Upstream.as_str()));
        }
        let interrupt = self.begin_unasked(&response);
        if let Some(turn) = self.turns.last_mut() {
            turn.response = Some(response);
        }
        interrupt
    }

    /// Where the response under way is that has this id.
    fn place_of(&self, response: &str) -> Option<usize> {
        self.turns.iter().position(|turn| turn.response.as_deref() == Some(response))
    }

    fn note_end(&mut self, response: &str) {
        if !response.is_empty() {
            self.ended.truncate(MOST_ENDED - 1);
            self.ended.push_front(response.into());
        }
    }

    fn done(&mut self, response: &str, usage: Option<&[u8]>, has_failed: bool) {
        let under_way = self.place_of(response);
        if under_way.is_none() && self.ended.iter().any(|ended| **ended == *response) {
            return;
        }
        self.note_end(response);
        let known = under_way.or_else(|| self.turns.iter().position(|turn| turn.response.is_none()));
        let mut turn = match known {
            Some(at) => self.turns.remove(at),
            None => {
                // Its beginning was not told; its end is charged all the same.
                let live = self.worker.live();
                let prompt = self.told.saturating_add(self.said.tokens());
                let facts = self.facts(Vec::new(), self.estimate(prompt, self.bound()));
                let owed = self.owed(&live, facts, None);
                self.begin(owed, prompt, self.said, None);
                let Some(turn) = self.turns.pop() else { return };
                turn
            }
        };
        match usage.and_then(|usage| realtime::usage(usage, turn.prompt, turn.heard)) {
            Some(usage) => {
                if turn.is_apart {
                    self.told = self.told.max(usage.total());
                } else {
                    self.told = usage.total();
                    self.said.forget(turn.said);
                }
                turn.account.charge(usage, None);
            }
            // What was said before it failed was asked for and heard.
            None if has_failed && turn.heard == Heard::default() => turn.account.refused_upstream(),
            None => turn.end(None),
        }
    }

    fn begin(&mut self, admitted: Admitted, prompt: Tokens, said: Said, event: Option<Box<str>>) {
        let mut account = self.account(&admitted);
        account.owe(admitted, None);
        answer::count(&self.worker, account.line.dialect, StatusCode::OK);
        self.turns.push(Turn {
            account,
            event,
            response: None,
            heard: Heard::default(),
            prompt,
            said,
            is_apart: false,
        });
    }

    /// The account of one more call that goes upstream.
    fn account(&mut self, admitted: &Admitted) -> Box<Account> {
        let mut account = self.opened(admitted.facts());
        account.line.status = StatusCode::OK.as_u16();
        account.line.decision = "allowed";
        account
    }

    /// The account of one more call.
    fn opened(&mut self, facts: &RequestFacts) -> Box<Account> {
        self.calls += 1;
        let id = format!("{}.{}", self.request_id, self.calls).into();
        let clock = &self.worker.plane.clock;
        let mut line = AccessLine::begin(id, facts.dialect, clock.clone(), clock.monotonic_ns());
        line.endpoint = Some(facts.endpoint);
        line.model = facts.model.clone();
        line.upstream = Some(self.way.upstream.settings.name.clone());
        let mut account = Account::open(&self.worker, line);
        account.opened_by(self.open.caller());
        account
    }

    fn estimate(&self, prompt: Tokens, stated: Option<Tokens>) -> Estimate {
        let output = stated.unwrap_or_else(|| self.usual_output());
        Estimate { prompt, output, choices: 1, output_is_stated: stated.is_some(), least_output: 1 }
    }

    fn usual_output(&self) -> Tokens {
        self.worker.plane.estimator.output_default(Some(self.model.as_str()))
    }

    /// The most output that a response may have, where the session says.
    fn bound(&self) -> Option<Tokens> {
        self.terms.bound(self.usual_output())
    }

    /// The id of a client's event: its own, or the one that it gets.
    fn named(&mut self, event: &Event) -> Box<str> {
        self.events += 1;
        event.id.clone().unwrap_or_else(|| format!("event_kw_{}", self.events).into())
    }

    fn facts(&self, other_models: Vec<ModelName>, estimate: Estimate) -> RequestFacts {
        RequestFacts { other_models, estimate, ..self.open.facts().clone() }
    }

    /// What an operator has changed since the websocket was opened holds for the next response.
    fn authorize(&self, live: &Live, facts: &RequestFacts) -> Result<Charge, Refusal> {
        let caller = self.open.caller().refreshed();
        let charge = policy::authorize(caller.policy(), facts, self.price(live, None))?;
        match facts.other_models.iter().find(|model| !live.routes.serves_as_named(&self.way.upstream, model)) {
            Some(stray) => Err(Refusal::ModelNotFound { model: Some(stray.clone()) }),
            None => Ok(charge),
        }
    }

    fn price(&self, live: &Live, scribe: Option<&ModelName>) -> Price {
        match scribe {
            Some(scribe) => live.prices.price(scribe.as_str()),
            None => live.prices.price_as(self.model.as_str(), self.way.rename.as_ref().map(ModelName::as_str)),
        }
    }

    /// Refuses a message. What asked for a response is a request of its own, and is written down as one that was refused.
    fn refuse(&mut self, refusal: &Refusal, about: Option<&str>, is_call: bool) -> Verdict {
        self.count(refusal);
        if !self.refusable.take(self.worker.plane.clock.monotonic_ns()) {
            return Verdict::Leave;
        }
        if is_call {
            let mut account = self.opened(&self.open.facts().clone());
            account.outcome = Outcome::Refused;
            account.line.decision = refusal.as_str();
            let status = dialect::of(account.line.dialect).refusal(refusal, &self.notes()).status;
            account.line.status = status.as_u16();
            answer::count(&self.worker, account.line.dialect, status);
        }
        let told = self.words(refusal, about);
        match refusal {
            Refusal::InvalidKey | Refusal::KeyDisabled | Refusal::KeyExpired { .. } | Refusal::GraceEnded { .. } => {
                Verdict::End(told)
            }
            _ => Verdict::Refuse(told),
        }
    }

    fn count(&self, refusal: &Refusal) {
        self.worker.plane.metrics.refusals.get_or_create(&Reason { reason: refusal.as_str() }).inc();
    }

    fn words(&self, refusal: &Refusal, about: Option<&str>) -> Bytes {
        realtime::refusal(refusal, &self.notes(), about)
    }

    fn notes(&self) -> Notes<'_> {
        let plane = &self.worker.plane;
        let quota_status = plane.live.load().limits.quota_status;
        Notes { request_id: &self.request_id, now: plane.clock.now(), quota_status }
    }

    /// Whose API is spoken, for the words of an end.
    pub(super) fn dialect(&self) -> dialect::DialectName {
        self.open.facts().dialect
    }
}

impl Turn {
    /// Charges what was heard of it.
    fn end(mut self, cut: Option<&'static str>) {
        let usage = self.heard.usage(self.prompt);
        self.account.charge(usage, cut);
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.cut("client_gone");
    }
}

/// What is asked of a model over a websocket.
pub(super) const ENDPOINT: Endpoint = Endpoint::Realtime;
