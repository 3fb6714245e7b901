//! What a request may cost in tokens, before a backend has counted: no tokenizer, only what past answers teach.
//!
//! Per model, two windows of the last `WINDOW` answers are kept: bytes of prompt per reported token, and reported output
//! tokens. An estimate takes a low one of the first and a high one of the second. When a model's requests come from one
//! distribution, whatever its shape, the next of `n + 1` lies below the `k`-th lowest of the `n` before it with probability
//! `k / (n + 1)`; `k` is chosen so that this stays at or below 6.5%, which holds POLICY's "nine prompts in ten" with room.

use std::array;
use std::hash::BuildHasher;
use std::iter::successors;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use foldhash::quality::RandomState;

use crate::policy::Usage;
use crate::units::Tokens;

/// Tokens that one item of base64 media (an image, a sound, a document) counts. What an image of about a megapixel costs at
/// most providers; the answer's usage corrects it.
pub const MEDIA_TOKENS: Tokens = 1_200;

/// Output tokens that one generated image counts: a square of medium quality. The answer's usage corrects it.
pub const IMAGE_OUTPUT_TOKENS: Tokens = 1_056;

/// Answers remembered for each model.
const WINDOW: usize = 64;

/// Models remembered. Only answered ones are learnt, so a caller cannot fill this with made-up names.
const MAX_MODELS: usize = 4_096;

/// Chains that the models are kept in.
const CHAINS: usize = 512;

/// Bytes per token, in thousandths: at first, at least, at most (POLICY 4).
const FIRST_RATIO: u32 = 3_000;
const RATIOS: std::ops::RangeInclusive<u32> = 1_000..=8_000;

/// How long a prompt is, as far as that is known without a tokenizer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptSize {
    /// Bytes of the body, media aside.
    pub text_bytes: u64,
    /// Items of base64 media, or files of a form.
    pub media_items: u64,
    /// Whether the backend reads more than that: what is behind a URL, or an earlier call.
    pub refers: bool,
}

impl PromptSize {
    /// What of the prompt is not text of the body, counted.
    pub fn others(self) -> u64 {
        self.media_items.saturating_add(u64::from(self.refers))
    }

    /// Prompt tokens by a rule that never changes: three bytes a token, rounded up, and [`MEDIA_TOKENS`] for each item of media.
    /// What the built-in backend reports, so that its answers are the same whatever was learnt. Saturates.
    pub fn fixed_tokens(self) -> Tokens {
        tokens(self.text_bytes, self.media_items, FIRST_RATIO)
    }
}

/// `text_bytes` at `ratio` thousandths of a byte a token, rounded up, and the media.
fn tokens(text_bytes: u64, media: u64, ratio: u32) -> Tokens {
    let text = (u128::from(text_bytes) * 1_000).div_ceil(u128::from(ratio.max(*RATIOS.start())));
    u64::try_from(text).unwrap_or(u64::MAX).saturating_add(media.saturating_mul(MEDIA_TOKENS))
}

/// Learns from answers and estimates requests. Shared by all workers. What is learnt of is never taken out again, so reading takes no lock.
#[derive(Debug)]
pub struct Estimator {
    /// Its hash is seeded anew by each process: callers choose names, and only those that were answered are kept.
    hash: RandomState,
    chains: Box<[Link]>,
    learnt: AtomicUsize,
    default_max_output: AtomicU64,
}

/// Where a model is, or the next one learnt of is put.
type Link = OnceLock<Box<Model>>;

#[derive(Debug)]
struct Model {
    name: Box<str>,
    learnt: Learnt,
    next: Link,
}

#[derive(Debug)]
struct Learnt {
    ratios: Window,
    outputs: Window,
    /// Thousandths of a byte per token that estimates divide by.
    ratio: AtomicU32,
    /// The output assumed; 0 while there are too few answers to say.
    output: AtomicU32,
}

/// The last answers' values of one kind. Writers may race; a lost value costs one answer's worth of knowledge.
#[derive(Debug)]
struct Window {
    values: [AtomicU32; WINDOW],
    written: AtomicUsize,
}

impl Window {
    fn new() -> Self {
        Self { values: array::from_fn(|_| AtomicU32::new(0)), written: AtomicUsize::new(0) }
    }

    /// Notes `value` (not 0), and gives what is known in ascending order: the slice's length says how much.
    fn note<'a>(&self, value: u32, sorted: &'a mut [u32; WINDOW]) -> &'a [u32] {
        let written = self.written.load(Ordering::Relaxed);
        self.written.store(written.wrapping_add(1), Ordering::Relaxed);
        if let Some(slot) = self.values.get(written % WINDOW) {
            slot.store(value, Ordering::Relaxed);
        }
        for (copy, slot) in sorted.iter_mut().zip(&self.values) {
            *copy = slot.load(Ordering::Relaxed);
        }
        sorted.sort_unstable();
        let unknown = sorted.partition_point(|value| *value == 0);
        sorted.get(unknown..).unwrap_or_default()
    }
}

/// The largest `k`, counted from 1, with `k / (n + 1)` at or below 6.5%; 0 when `n` is too small for any.
fn rank(n: usize) -> usize {
    (n + 1) * 65 / 1_000
}

impl Learnt {
    fn new() -> Self {
        Self {
            ratios: Window::new(),
            outputs: Window::new(),
            ratio: AtomicU32::new(FIRST_RATIO),
            output: AtomicU32::new(0),
        }
    }

    fn note_ratio(&self, ratio: u32) {
        let mut sorted = [0; WINDOW];
        let known = self.ratios.note(ratio.clamp(*RATIOS.start(), *RATIOS.end()), &mut sorted);
        let low = match rank(known.len()).checked_sub(1) {
            Some(index) => known.get(index).copied(),
            None => known.first().map(|lowest| *lowest.min(&FIRST_RATIO)),
        };
        self.ratio.store(low.unwrap_or(FIRST_RATIO), Ordering::Relaxed);
    }

    fn note_output(&self, output: u32) {
        let mut sorted = [0; WINDOW];
        let known = self.outputs.note(output, &mut sorted);
        let rank = rank(known.len());
        if rank > 0 {
            let high = known.len().checked_sub(rank).and_then(|index| known.get(index));
            self.output.store(high.copied().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

impl Estimator {
    /// Knows nothing yet; `default_max_output` is the output assumed for a model of which it has learnt too little.
    pub fn new(default_max_output: Tokens) -> Self {
        Self {
            hash: RandomState::default(),
            chains: (0..CHAINS).map(|_| Link::new()).collect(),
            learnt: AtomicUsize::new(0),
            default_max_output: AtomicU64::new(default_max_output),
        }
    }

    /// Replaces the output assumed where nothing is learnt.
    pub fn set_default_max_output(&self, tokens: Tokens) {
        self.default_max_output.store(tokens, Ordering::Relaxed);
    }

    /// Prompt tokens of a request, leaning high, rounded up: `text_bytes` over the model's bytes per token (3 until learnt,
    /// 1 to 8 afterwards), and [`MEDIA_TOKENS`] for each of `media` items. Saturates.
    pub fn prompt(&self, model: Option<&str>, text_bytes: u64, media: u64) -> Tokens {
        let ratio = model
            .and_then(|model| self.learnt_of(model))
            .map_or(FIRST_RATIO, |learnt| learnt.ratio.load(Ordering::Relaxed));
        tokens(text_bytes, media, ratio)
    }

    /// Output tokens assumed of one answer whose request states no limit: what all but a few of the model's last answers
    /// stayed within, or the default until enough of them are known.
    pub fn output_default(&self, model: Option<&str>) -> Tokens {
        let learnt =
            model.and_then(|model| self.learnt_of(model)).map_or(0, |learnt| learnt.output.load(Ordering::Relaxed));
        if learnt > 0 { Tokens::from(learnt) } else { self.default_max_output.load(Ordering::Relaxed) }
    }

    /// Learns from an answer. `model` is the name the caller asked for, `text_bytes` and `media` (what is none of them) are the request's
    /// [`PromptSize`]. Usage that was estimated teaches nothing; prompts with media, or with more tokens than bytes, teach nothing about text; an output
    /// of 0 nothing about outputs, and so is given what a limit has cut short.
    pub fn learn(&self, model: &str, text_bytes: u64, media: u64, usage: &Usage) {
        if usage.estimated || (usage.input == 0 && usage.output == 0) {
            return;
        }
        if let Some(learnt) = self.learnt_of(model) {
            return learn(learnt, text_bytes, media, usage);
        }
        let is_full = |known: usize| (known < MAX_MODELS).then_some(known + 1);
        if self.learnt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_full).is_err() {
            return;
        }
        let mut link = self.chain(model);
        let mut new = Some(Box::new(Model { name: model.into(), learnt: Learnt::new(), next: Link::new() }));
        while let Some(found) = link.and_then(|link| found_or_put(link, &mut new)) {
            if *found.name == *model {
                learn(&found.learnt, text_bytes, media, usage);
                break;
            }
            link = Some(&found.next);
        }
        // Another worker may have put the same there meanwhile.
        if new.is_some() {
            self.learnt.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn learnt_of(&self, name: &str) -> Option<&Learnt> {
        let first = self.chain(name)?.get();
        successors(first, |model| model.next.get()).find(|model| *model.name == *name).map(|model| &model.learnt)
    }

    fn chain(&self, name: &str) -> Option<&Link> {
        self.chains.get(usize::try_from(self.hash.hash_one(name) % CHAINS as u64).unwrap_or(0))
    }
}

/// What is there; where nothing is, `new` from now on.
fn found_or_put<'a>(link: &'a Link, new: &mut Option<Box<Model>>) -> Option<&'a Model> {
    if link.get().is_none()
        && let Some(model) = new.take()
    {
        *new = link.set(model).err();
    }
    link.get().map(|model| &**model)
}

/// The most tokens of one answer that teach what others have: no model writes more, and one absurd report is not to hold up every key.
const MOST_OUTPUT: Tokens = 1 << 20;

fn learn(learnt: &Learnt, text_bytes: u64, media: u64, usage: &Usage) {
    // A token is a byte at the least: of more of them some were not in the body (a conversation that it goes on with, a picture behind a URL, what a
    // tool has found), and say nothing of what others write.
    if media == 0 && usage.input > 0 && usage.input <= text_bytes {
        let ratio = u128::from(text_bytes) * 1_000 / u128::from(usage.input);
        learnt.note_ratio(u32::try_from(ratio).unwrap_or(u32::MAX));
    }
    if (1..=MOST_OUTPUT).contains(&usage.output) {
        learnt.note_output(u32::try_from(usage.output).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(input: Tokens, output: Tokens) -> Usage {
        Usage { input, output, ..Usage::default() }
    }

    #[test]
    fn three_bytes_a_token_until_something_is_learnt() {
        let estimator = Estimator::new(512);
        assert_eq!(estimator.prompt(Some("m"), 300, 0), 100);
        assert_eq!(estimator.prompt(Some("m"), 301, 2), 101 + 2 * MEDIA_TOKENS);
        assert_eq!(estimator.prompt(None, u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(estimator.output_default(Some("m")), 512);
        estimator.set_default_max_output(7);
        assert_eq!(estimator.output_default(None), 7);
    }

    #[test]
    fn one_expensive_prompt_raises_the_next_estimate_at_once_and_cheap_ones_lower_it_later() {
        let estimator = Estimator::new(512);
        estimator.learn("m", 1_000, 0, &usage(800, 1));
        assert!(estimator.prompt(Some("m"), 1_000, 0) >= 800);
        assert_eq!(estimator.prompt(Some("other"), 1_000, 0), 334);
        for _ in 0..2 * WINDOW {
            estimator.learn("m", 1_000, 0, &usage(200, 1));
        }
        assert_eq!(estimator.prompt(Some("m"), 1_000, 0), 200);
    }

    #[test]
    fn the_ratio_stays_between_one_and_eight_bytes() {
        let estimator = Estimator::new(512);
        for _ in 0..WINDOW {
            estimator.learn("dear", 10, 0, &usage(10, 1));
            estimator.learn("cheap", 1_000_000, 0, &usage(1, 1));
        }
        assert_eq!(estimator.prompt(Some("dear"), 800, 0), 800);
        assert_eq!(estimator.prompt(Some("cheap"), 800, 0), 100);
    }

    /// What a backend has found, kept or fetched besides the body says nothing of the next body, which may be another caller's.
    #[test]
    fn more_tokens_than_bytes_teach_nothing_about_text() {
        let estimator = Estimator::new(512);
        for _ in 0..WINDOW {
            estimator.learn("m", 300, 0, &usage(75, 1));
        }
        let before = estimator.prompt(Some("m"), 25_000, 0);
        for _ in 0..WINDOW {
            estimator.learn("m", 300, 0, &usage(301, 1));
            estimator.learn("m", 300, 0, &usage(90_000, 1));
        }
        assert_eq!(estimator.prompt(Some("m"), 25_000, 0), before);
    }

    #[test]
    fn estimated_usage_and_media_teach_nothing_about_text() {
        let estimator = Estimator::new(512);
        estimator.learn("m", 1_000, 0, &Usage { estimated: true, ..usage(1_000, 9) });
        estimator.learn("m", 1_000, 1, &usage(5_000, 9));
        assert_eq!(estimator.prompt(Some("m"), 300, 0), 100);
    }

    #[test]
    fn an_absurd_report_teaches_nothing_of_outputs() {
        let estimator = Estimator::new(512);
        for output in [20, MOST_OUTPUT + 1, 1 << 40].into_iter().cycle().take(60) {
            estimator.learn("m", 100, 0, &usage(50, output));
        }
        assert_eq!(estimator.output_default(Some("m")), 20);
    }

    #[test]
    fn the_output_default_follows_the_answers_both_ways() {
        let estimator = Estimator::new(512);
        for _ in 0..WINDOW {
            estimator.learn("terse", 100, 0, &usage(10, 20));
            estimator.learn("wordy", 100, 0, &usage(10, 9_000));
        }
        assert_eq!(estimator.output_default(Some("terse")), 20);
        assert_eq!(estimator.output_default(Some("wordy")), 9_000);
        assert_eq!(estimator.output_default(Some("unseen")), 512);
    }

    fn models(estimator: &Estimator) -> usize {
        let chain = |link: &'_ Link| successors(link.get(), |model| model.next.get()).count();
        estimator.chains.iter().map(chain).sum()
    }

    #[test]
    fn no_more_models_are_learnt_than_are_kept() {
        let estimator = Estimator::new(512);
        for name in 0..MAX_MODELS + 10 {
            estimator.learn(&format!("m{name}"), 100, 0, &usage(100, 1));
            estimator.learn("m0", 100, 0, &usage(100, 1));
        }
        assert_eq!(models(&estimator), MAX_MODELS);
        assert_eq!(estimator.prompt(Some("m0"), 100, 0), 100);
        assert_eq!(estimator.prompt(Some(&format!("m{}", MAX_MODELS + 1)), 300, 0), 100);
    }

    #[test]
    fn workers_may_learn_the_same_model_at_once() {
        let estimator = Estimator::new(512);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| estimator.learn("m", 1_000, 0, &usage(500, 40))));
            }
        });
        assert_eq!((models(&estimator), estimator.learnt.load(Ordering::Relaxed)), (1, 1));
        assert_eq!(estimator.prompt(Some("m"), 1_000, 0), 500);
    }

    /// A model's true bytes per token: around a centre, with a spread and a tail of dear prompts.
    fn true_ratio(centre: f64, spread: f64, dear_share: f64, draws: (f64, f64, f64)) -> f64 {
        let bell = (draws.0 + draws.1 - 1.0) * spread;
        let dear = if draws.2 < dear_share { 0.6 } else { 1.0 };
        (centre * bell.exp() * dear).clamp(1.02, 7.9)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn nine_prompts_in_ten_are_estimated_at_or_above_what_is_reported(
            centre in 1.2_f64..7.0, spread in 0.0_f64..0.6, dear_share in 0.0_f64..0.3,
            prompts in proptest::collection::vec((any::<f64>(), 0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0, 40_u64..200_000), 1_200),
        ) {
            let estimator = Estimator::new(512);
            let (mut covered, mut asked) = (0_u32, 0_u32);
            for (round, (_, a, b, c, bytes)) in prompts.into_iter().enumerate() {
                let reported = (bytes as f64 / true_ratio(centre, spread, dear_share, (a, b, c))).round() as u64;
                if round >= 200 {
                    asked += 1;
                    covered += u32::from(estimator.prompt(Some("m"), bytes, 0) >= reported);
                }
                estimator.learn("m", bytes, 0, &usage(reported, 10));
            }
            // 1,000 draws: three standard deviations of a share of 0.9 are under 3%.
            prop_assert!(f64::from(covered) >= 0.9 * f64::from(asked) - 0.03 * f64::from(asked), "{covered} of {asked}");
        }
    }
}
