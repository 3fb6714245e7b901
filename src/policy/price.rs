//! What usage costs in quota units.

use crate::policy::facts::Usage;
use crate::policy::glob::Glob;
use crate::units::Units;

/// Units per million tokens of each kind, and per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Units per million uncached input tokens.
    pub input: u64,
    /// Units per million input tokens read from a cache.
    pub cached_input: u64,
    /// Units per million input tokens written to a cache.
    pub cache_write: u64,
    /// Units per million output tokens.
    pub output: u64,
    /// Units per request.
    pub request: u64,
}

impl Price {
    /// One unit a token: what a model costs when nothing else is said.
    pub const TOKEN: Self =
        Self { input: 1_000_000, cached_input: 1_000_000, cache_write: 1_000_000, output: 1_000_000, request: 0 };

    /// The price of `usage`, rounded up once at the end; saturates instead of wrapping.
    pub fn units(&self, usage: &Usage) -> Units {
        let cached = usage.cached_input.min(usage.input);
        let written = usage.cache_write.min(usage.input - cached);
        let plain = usage.input - cached - written;
        let millionths = [
            (plain, self.input),
            (cached, self.cached_input),
            (written, self.cache_write),
            (usage.output, self.output),
        ]
        .into_iter()
        .fold(0_u128, |sum, (tokens, price)| sum.saturating_add(u128::from(tokens) * u128::from(price)));
        let units = millionths.div_ceil(1_000_000).saturating_add(u128::from(self.request));
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// This price with every input token at the dearest of the three rates: what is reserved, since nobody knows beforehand how a
    /// prompt is split between plain, cached and cache-writing tokens.
    pub fn before_the_split(&self) -> Self {
        Self { input: self.input.max(self.cached_input).max(self.cache_write), ..*self }
    }

    /// The dearer of two prices in each of its parts: what a request may cost when either of two models may answer it.
    pub fn dearest(&self, other: &Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached_input: self.cached_input.max(other.cached_input),
            cache_write: self.cache_write.max(other.cache_write),
            output: self.output.max(other.output),
            request: self.request.max(other.request),
        }
    }

    /// The most output tokens whose price fits into `budget` units beside what `besides` (the prompt) and the request itself cost; at
    /// most `u64::MAX / 2`, and 0 where nothing is left.
    pub fn output_covered(&self, besides: &Usage, budget: Units) -> u64 {
        if self.units(besides) > budget {
            return 0;
        }
        let (mut low, mut high) = (0_u64, u64::MAX / 2);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let usage = Usage { output: middle, ..*besides };
            if self.units(&usage) <= budget { low = middle } else { high = middle - 1 }
        }
        low
    }
}

/// `[prices]`: the first match wins in this order: exact names, then longer patterns before shorter ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceTable(Vec<(Glob, Price)>);

impl PriceTable {
    /// Orders the rows by how much they say.
    pub fn new(mut rows: Vec<(Glob, Price)>) -> Self {
        rows.sort_by_key(|(glob, _)| (!glob.is_exact(), usize::MAX - glob.as_str().len()));
        Self(rows)
    }

    /// The price of `model`; [`Price::TOKEN`] when no row matches.
    pub fn price(&self, model: &str) -> Price {
        self.find(model).map_or(Price::TOKEN, |(_, price)| price)
    }

    /// The price of what the client calls `name` and the upstream `target`, where that is another name: the row of the name, if
    /// one was written for it, else that of the target. A row for everything (`*`) is not one for an alias.
    pub fn price_as(&self, name: &str, target: Option<&str>) -> Price {
        let Some(target) = target else { return self.price(name) };
        let own = self.find(name).filter(|(glob, _)| glob.as_str().bytes().any(|byte| byte != b'*'));
        own.map_or_else(|| self.price(target), |(_, price)| price)
    }

    /// The row that matches `model` first.
    pub fn find(&self, model: &str) -> Option<(&Glob, Price)> {
        self.0.iter().find(|(glob, _)| glob.matches(model)).map(|(glob, price)| (glob, *price))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_budget_in_millionths_of_a_dollar() {
        // gpt-4o: 2.50 / 1.25 / 10.00 dollars a million tokens.
        let price =
            Price { input: 2_500_000, cached_input: 1_250_000, cache_write: 2_500_000, output: 10_000_000, request: 7 };
        let usage = Usage { input: 1_000, cached_input: 400, output: 200, ..Usage::default() };
        assert_eq!(price.units(&usage), 1_500 + 500 + 2_000 + 7);
        assert_eq!(price.units(&Usage { input: 1, ..Usage::default() }), 3 + 7);
    }

    #[test]
    fn an_exact_name_is_asked_before_a_pattern_and_a_long_pattern_before_a_short_one() {
        let row = |pattern: &str, request| (Glob::new(pattern).unwrap(), Price { request, ..Price::TOKEN });
        let table = PriceTable::new(vec![row("*", 1), row("gpt-4o*", 2), row("gpt-4o", 3)]);
        assert_eq!(table.price("gpt-4o").request, 3);
        assert_eq!(table.price("gpt-4o-mini").request, 2);
        assert_eq!(table.price("o3").request, 1);
        assert_eq!(PriceTable::default().price("o3"), Price::TOKEN);
    }

    #[test]
    fn an_alias_costs_what_it_stands_for_unless_it_has_a_row_of_its_own() {
        let row = |pattern: &str, request| (Glob::new(pattern).unwrap(), Price { request, ..Price::TOKEN });
        let table = PriceTable::new(vec![row("*", 1), row("gpt-4o*", 2), row("team-*", 3), row("fast", 4)]);
        let price = |name, target| table.price_as(name, target).request;
        assert_eq!(price("quick", Some("gpt-4o-mini")), 2, "a row for everything says nothing of an alias");
        assert_eq!(price("quick", Some("o3")), 1);
        assert_eq!((price("fast", Some("gpt-4o-mini")), price("team-a", Some("gpt-4o-mini"))), (4, 3));
        assert_eq!(price("quick", None), 1);
        assert_eq!(PriceTable::default().price_as("quick", Some("o3")), Price::TOKEN);
    }

    proptest! {
        #[test]
        fn what_is_covered_fits_and_one_more_does_not(
            input in 0_u64..1_000_000, per in 1_u64..50_000_000, request in 0_u64..100, budget in 0_u64..1_000_000_000,
        ) {
            let price = Price { output: per, request, ..Price::TOKEN };
            let besides = Usage { input, ..Usage::default() };
            let covered = price.output_covered(&besides, budget);
            if covered > 0 {
                let fits = price.units(&Usage { output: covered, ..besides }) <= budget;
                prop_assert!(fits);
                let more = price.units(&Usage { output: covered + 1, ..besides }) > budget;
                prop_assert!(more);
            }
        }

        #[test]
        fn never_wraps(input: u64, output: u64, a: u64, b: u64) {
            let price = Price { input: a, output: b, ..Price::TOKEN };
            let units = price.units(&Usage { input, output, ..Usage::default() });
            let half = price.units(&Usage { input: input / 2, output: output / 2, ..Usage::default() });
            prop_assert!(units >= half);
        }
    }
}
