//! The members of a body that name models, or carry options, inside themselves.

use crate::dialect::describe::members::{Member, ONE_MODEL, STREAM_OPTIONS, THINKING, TOP};
use crate::dialect::describe::walk::{Found, Object, Seen, TOKENS, TOKENS_EXPECTED};
use crate::dialect::json::{Cursor, Name};
use crate::policy::BodyFlaw;
use crate::units::{ModelName, Tokens};

/// The most models a body may name besides its own; each costs a lookup and memory.
const MAX_OTHER_MODELS: usize = 64;

/// Goes into the object at the cursor, if it is one and not null.
pub(super) fn open_object(cursor: &mut Cursor<'_>, member: &'static str, start: usize) -> Result<Object, BodyFlaw> {
    if cursor.null()? {
        return Ok(Object::Null(start..cursor.offset()));
    }
    if cursor.peek() != Some(b'{') {
        return Err(cursor.bad(member, "an object or null"));
    }
    cursor.enter()?;
    Ok(Object::At { at: cursor.offset(), is_empty: cursor.peek() == Some(b'}') })
}

pub(super) fn stream_options(cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), BodyFlaw> {
    let start = cursor.offset();
    found.options = open_object(cursor, "stream_options", start)?;
    if !matches!(found.options, Object::At { .. }) {
        return Ok(());
    }
    let (mut first, mut seen) = (true, Seen::default());
    while let Some(name) = cursor.next_member(&mut first)? {
        if let Some((name, ())) = STREAM_OPTIONS.find(&name)? {
            seen.note(1, name)?;
            let start = cursor.offset();
            let asked = cursor.flag(name)?.unwrap_or(false);
            found.include_usage = Some((asked, start..cursor.offset()));
        } else {
            cursor.skip()?;
        }
    }
    Ok(())
}

/// The tokens that anthropic's `thinking` may take; `max_tokens` is to be more than that (platform.claude.com, extended thinking).
pub(super) fn thinking(cursor: &mut Cursor<'_>) -> Result<Tokens, BodyFlaw> {
    let mut budget = 0;
    if cursor.peek() != Some(b'{') {
        cursor.skip()?;
        return Ok(budget);
    }
    cursor.enter()?;
    let (mut first, mut seen) = (true, Seen::default());
    while let Some(name) = cursor.next_member(&mut first)? {
        if let Some((name, ())) = THINKING.find(&name)? {
            seen.note(1, name)?;
            budget = cursor.integer(name, TOKENS, TOKENS_EXPECTED)?.unwrap_or(0);
        } else {
            cursor.skip()?;
        }
    }
    Ok(budget)
}

/// A further model, which the key must be allowed too.
fn other_model(cursor: &mut Cursor<'_>, member: &'static str, others: &mut Vec<ModelName>) -> Result<bool, BodyFlaw> {
    let expected = "at most 64 model names";
    let Some((name, _)) = cursor.plain_string(member, expected)? else { return Ok(false) };
    let model = ModelName::new(&name).filter(|_| others.len() < MAX_OTHER_MODELS);
    others.push(model.ok_or(BodyFlaw::BadMember { member, expected })?);
    Ok(true)
}

/// `models`, `fallbacks`: an array of names, or of objects with a `model` and nothing that is refused.
pub(super) fn model_list(
    cursor: &mut Cursor<'_>,
    member: &'static str,
    others: &mut Vec<ModelName>,
) -> Result<(), BodyFlaw> {
    if cursor.null()? {
        return Ok(());
    }
    let expected = "an array of model names";
    if cursor.peek() != Some(b'[') {
        return Err(cursor.bad(member, expected));
    }
    cursor.enter()?;
    let mut first = true;
    while cursor.next_element(&mut first)? {
        let named = if cursor.peek() == Some(b'{') {
            fallback(cursor, member, others)?
        } else {
            other_model(cursor, member, others)?
        };
        if !named {
            return Err(BodyFlaw::BadMember { member, expected });
        }
    }
    Ok(())
}

fn fallback(cursor: &mut Cursor<'_>, list: &'static str, others: &mut Vec<ModelName>) -> Result<bool, BodyFlaw> {
    cursor.enter()?;
    let (mut first, mut seen, mut named) = (true, Seen::default(), false);
    while let Some(name) = cursor.next_member(&mut first)? {
        match TOP.find(&name)? {
            Some((name, Member::Model)) => {
                seen.note(1, name)?;
                named = other_model(cursor, list, others)?;
            }
            // Its own text and limits would make another request of it than the one that is estimated.
            Some((member, _)) if !cursor.null()? => return Err(BodyFlaw::MemberNotAllowed { member }),
            Some(_) => {}
            None => _ = cursor.skip()?,
        }
    }
    Ok(named)
}

pub(super) fn route(cursor: &mut Cursor<'_>) -> Result<bool, BodyFlaw> {
    let expected = "\"fallback\" or null";
    match cursor.plain_string("route", expected)? {
        None => Ok(false),
        Some((route, _)) if route == "fallback" => Ok(true),
        Some(_) => Err(BodyFlaw::BadMember { member: "route", expected }),
    }
}

/// Counts the prompts of a completion: each string or list of tokens in an array is one. An object is a stored prompt, which
/// may carry a model of its own.
pub(super) fn prompt(cursor: &mut Cursor<'_>) -> Result<u64, BodyFlaw> {
    match cursor.peek() {
        Some(b'{') => Err(BodyFlaw::MemberNotAllowed { member: "prompt" }),
        Some(b'[') => {
            cursor.enter()?;
            let (mut first, mut prompts) = (true, 0);
            while cursor.next_element(&mut first)? {
                prompts += u64::from(matches!(cursor.peek(), Some(b'"' | b'[' | b'{')));
                cursor.skip()?;
            }
            Ok(prompts)
        }
        _ => cursor.skip().map(|_| 0),
    }
}

/// Built-in tools may name a model of their own (image generation, advisor).
pub(super) fn tools(cursor: &mut Cursor<'_>, others: &mut Vec<ModelName>) -> Result<(), BodyFlaw> {
    if cursor.peek() != Some(b'[') {
        return cursor.skip().map(|_| ());
    }
    cursor.enter()?;
    let mut first = true;
    while cursor.next_element(&mut first)? {
        if cursor.peek() != Some(b'{') {
            cursor.skip()?;
            continue;
        }
        cursor.enter()?;
        let (mut first, mut seen) = (true, Seen::default());
        while let Some(name) = cursor.next_member(&mut first)? {
            if ONE_MODEL.find(&name)?.is_some() {
                seen.note(1, "model")?;
                other_model(cursor, "tools", others)?;
            } else {
                cursor.skip()?;
            }
        }
    }
    Ok(())
}

/// OpenRouter's plugins may name models under many names; none of these is resolved, so none is let through.
pub(super) fn plugins(cursor: &mut Cursor<'_>) -> Result<(), BodyFlaw> {
    if cursor.peek() != Some(b'[') {
        return if cursor.null()? { Ok(()) } else { Err(cursor.bad("plugins", "an array of objects, or null")) };
    }
    cursor.enter()?;
    let mut first = true;
    while cursor.next_element(&mut first)? {
        if cursor.peek() != Some(b'{') {
            cursor.skip()?;
            continue;
        }
        cursor.enter()?;
        let mut first = true;
        while let Some(name) = cursor.next_member(&mut first)? {
            let mut buffer = Name::buffer();
            let folded = name.folded(&mut buffer);
            if folded.is_none_or(|folded| memchr::memmem::find(folded, b"model").is_some()) {
                return Err(BodyFlaw::MemberNotAllowed { member: "plugins" });
            }
            cursor.skip()?;
        }
    }
    Ok(())
}

/// An object merged into the request by some: nothing watched may come in through it.
pub(super) fn extra_body(cursor: &mut Cursor<'_>) -> Result<(), BodyFlaw> {
    let start = cursor.offset();
    if !matches!(open_object(cursor, "extra_body", start)?, Object::At { .. }) {
        return Ok(());
    }
    let mut first = true;
    while let Some(name) = cursor.next_member(&mut first)? {
        if TOP.find(&name)?.is_some() {
            return Err(BodyFlaw::MemberNotAllowed { member: "extra_body" });
        }
        cursor.skip()?;
    }
    Ok(())
}
