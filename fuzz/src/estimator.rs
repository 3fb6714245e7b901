//! Any answers learnt from: an estimate stays between a token for every byte and one for every eight, more text never costs
//! less, and what was learnt of one model is not held against another.

use keyward::dialect::estimate::{Estimator, MEDIA_TOKENS};
use keyward::policy::Usage;

const MODELS: [&str; 3] = ["a", "b", "never-answered"];
const DEFAULT: u64 = 512;

/// Each 16 bytes are one answer: a model, the bytes of its prompt and its media, and the usage that was reported.
pub fn check(input: &[u8]) {
    let estimator = Estimator::new(DEFAULT);
    let mut most_output = [DEFAULT; 2];
    for answer in input.chunks_exact(16) {
        let number = |at: usize, length: usize| {
            answer[at..at + length].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let (which, text, media) = (usize::from(answer[0] & 1), number(2, 5), u64::from(answer[1] & 3));
        let usage = Usage {
            input: number(7, 4) << (answer[0] >> 3),
            output: number(11, 4),
            estimated: answer[15] & 7 == 7,
            ..Usage::default()
        };
        estimator.learn(MODELS[which], text, media, &usage);
        most_output[which] = most_output[which].max(usage.output.min(u64::from(u32::MAX)));
        for model in MODELS.map(Some).into_iter().chain([None]) {
            in_bounds(&estimator, model, text, media);
        }
        for (model, most) in MODELS.iter().zip(most_output) {
            let assumed = estimator.output_default(Some(model));
            assert!((1..=most).contains(&assumed), "{assumed} tokens are assumed, {most} were the most ever seen");
        }
    }
    for model in [Some("never-answered"), None] {
        assert_eq!(estimator.output_default(model), DEFAULT);
        assert_eq!(estimator.prompt(model, 300, 0), 100);
    }
}

fn in_bounds(estimator: &Estimator, model: Option<&str>, text: u64, media: u64) {
    let estimate = estimator.prompt(model, text, 0);
    assert!(text.div_ceil(8) <= estimate && estimate <= text, "{estimate} tokens for {text} bytes");
    assert!(estimator.prompt(model, text.saturating_add(1), 0) >= estimate);
    assert_eq!(estimator.prompt(model, text, media), estimate + media * MEDIA_TOKENS);
    assert_eq!(estimator.prompt(model, u64::MAX, u64::MAX), u64::MAX);
}
