//! `[models]`, `[fallbacks]` and `[prices]`: what names stand for, what is tried in their place, and what their use costs.

use crate::config::raw::{Names, Table};
use crate::policy::{Glob, Price, PriceTable};
use crate::units::ModelName;
use crate::upstream::{Kind, UpstreamSettings};

pub(super) const PRICE_NAMES: Names = &["input", "cached_input", "cache_write", "output", "request"];

/// The names that may be used for a model, for faults.
const NAME: &str = "a model name: 1 to 256 of A-Z a-z 0-9 . _ : / @ + -, without \"..\"";

/// The largest price, units per million tokens: TOML's largest whole number.
const LARGEST: u64 = i64::MAX as u64;

/// Reads `[models]`: alias and what is sent upstream for it. An alias stands for a name, never for another alias.
pub(super) fn read_aliases(root: &Table<'_>, upstreams: &[UpstreamSettings]) -> Vec<(ModelName, ModelName)> {
    let Some(models) = root.get("models").and_then(|item| item.into_open_table()) else { return Vec::new() };
    let is_alias = |name: &str| models.entries.is_some_and(|entries| entries.contains_key(name));
    let is_served = |name: &str| upstreams.iter().flat_map(|upstream| &upstream.models).any(|glob| glob.matches(name));
    let mut aliases = Vec::new();
    for (name, item) in models.members() {
        let alias = ModelName::new(name);
        if alias.is_none() {
            item.fault(format!("the alias is not {NAME}"));
        }
        let Some(target) = item.parsed(NAME, ModelName::new) else { continue };
        if is_alias(target.as_str()) {
            item.fault(format!("\"{target}\" is itself an alias; an alias stands for a model's own name"));
            continue;
        }
        if !upstreams.is_empty() && !is_served(target.as_str()) && !is_served(name) {
            item.warn_unseen("no upstream serves the model this alias stands for");
        }
        aliases.extend(alias.map(|alias| (alias, target)));
    }
    aliases
}

/// Reads `[fallbacks]`: a name that clients ask for, and those tried in its place. The fallbacks of a fallback are not.
pub(super) fn read_fallbacks(
    root: &Table<'_>,
    upstreams: &[UpstreamSettings],
    aliases: &[(ModelName, ModelName)],
) -> Vec<(ModelName, Vec<ModelName>)> {
    const LIST: &str = "a list of model names";
    let Some(table) = root.get("fallbacks").and_then(|item| item.into_open_table()) else { return Vec::new() };
    // The built-in backend, whose answers are made up, takes over from nobody.
    let backends = || upstreams.iter().filter(|upstream| upstream.kind != Kind::Sandbox);
    let is_served = |name: &ModelName| {
        let target = aliases.iter().find(|(alias, _)| alias == name).map_or(name, |(_, target)| target);
        backends().flat_map(|upstream| &upstream.models).any(|glob| glob.matches(target.as_str()))
    };
    let mut fallbacks = Vec::new();
    for (name, item) in table.members() {
        let asked = ModelName::new(name);
        if asked.is_none() {
            item.fault(format!("what has fallbacks is not {NAME}"));
        }
        if item.is_empty_list() {
            item.fault("is empty; leave it out where nothing is to be tried");
        }
        let mut models: Vec<ModelName> = Vec::new();
        item.each(LIST, |_, item| {
            let Some(model) = item.parsed(NAME, ModelName::new) else { return };
            if model.as_str() == name {
                item.fault(format!("\"{model}\" is no fallback for itself"));
            } else if models.contains(&model) {
                item.fault(format!("\"{model}\" is listed twice"));
            } else {
                if !upstreams.is_empty() && !is_served(&model) {
                    item.warn_unseen("no upstream serves this fallback");
                }
                models.push(model);
            }
        });
        if let Some(asked) = asked {
            if !upstreams.is_empty() && !is_served(&asked) {
                item.warn_unseen("no upstream serves the model these stand in for, so they are never tried");
            }
            fallbacks.push((asked, models));
        }
    }
    fallbacks
}

/// Reads `[prices]`.
pub(super) fn read_prices(root: &Table<'_>) -> PriceTable {
    let Some(prices) = root.get("prices").and_then(|item| item.into_open_table()) else { return PriceTable::default() };
    let mut rows = Vec::new();
    for (pattern, item) in prices.members() {
        let glob = Glob::new(pattern);
        if glob.is_none() {
            item.fault("the price's name is not a model name or a pattern with \"*\"");
        }
        let Some(table) = item.into_table(PRICE_NAMES) else { continue };
        let input = table.require("input", "units per million input tokens").and_then(|item| item.integer(0..=LARGEST));
        let input = input.unwrap_or(0);
        let price = Price {
            input,
            cached_input: table.integer_or("cached_input", input, 0..=LARGEST),
            cache_write: table.integer_or("cache_write", input, 0..=LARGEST),
            output: table.integer_or("output", input, 0..=LARGEST),
            request: table.integer_or("request", 0, 0..=LARGEST),
        };
        rows.extend(glob.map(|glob| (glob, price)));
    }
    PriceTable::new(rows)
}
