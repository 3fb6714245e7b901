//! Whatever the pieces an answer comes in, whatever it holds.

use super::*;

proptest! {
    #[test]
    fn no_cut_and_no_line_ending_changes_a_byte_or_a_token(
        which in 0..ALL.len(),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        mark: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let golden = &ALL[which];
        let mut text = golden.body.to_owned();
        if golden.framing == Framing::EventStream {
            text = text.replace('\n', line_end);
            if mark {
                text.insert(0, '\u{feff}');
            }
        }
        let mut meter = meter(golden, Coding::Identity);
        prop_assert_eq!(run(&mut meter, &pieces(text.as_bytes(), &cuts)), text.as_bytes());
        prop_assert_eq!(meter.reported(), golden.usage);
        prop_assert_eq!(meter.is_complete(), golden.is_complete);
        if golden.framing != Framing::Opaque {
            prop_assert_eq!(meter.output_bytes(), golden.text);
        }
    }

    #[test]
    fn exactly_the_usage_event_is_taken_out_wherever_the_stream_is_cut(
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let events: Vec<String> =
            CHAT_STREAM.split_inclusive("\n\n").map(|event| event.replace('\n', line_end)).collect();
        let stream = events.concat();
        let mut meter = chat(true);
        let passed = run(&mut meter, &pieces(stream.as_bytes(), &cuts));
        let expected = [&events[..4], &events[5..]].concat().concat();
        prop_assert_eq!(String::from_utf8(passed).unwrap(), expected);
        prop_assert_eq!(meter.reported().map(|usage| usage.total()), Some(1029));
    }

    #[test]
    fn a_body_in_one_piece_is_read_as_byte_by_byte(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", " ", "null", "\"usage\":", "\"usageMetadata\":", "\"response\":{", "\"message\":{",
            "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}", "\"usageMetadata\":{\"promptTokenCount\":3}", "\"choices\":[", "\"choices\":[]",
            "\"usage\":{\"prompt_tokens\":7,\"text\":\"abc\"}", "\"usage\":{\"input_tokens\":7,\"x\":{\"content\":[1,\"abc\"]},\"type\":null}", "\"usage\":{},\"type\":\"message_stop\"",
            "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1.5}", "\"usage\":{\"output_tokens\":9} ", "\"id\":true,\"content\":\"x\",", "\"content\":7,",
            "\"candidates\":[{", "\"finishReason\":\"STOP\"", "\"type\":\"message_stop\"", "\"content\":\"abc\"", "\"content\":", "\"text\"", "\"a\\n\\u00e9\"",
            "\"a string that is longer than two blocks of sixteen\"", "-0.0069292834,0.0001,-7,1e5,12345678901234567890", "\"x\\\"", "\"\"", "1700000000",
        ]), 0..40),
        which in 0..ALL.len(),
    ) {
        let text = parts.concat();
        let golden = &ALL[which];
        let meter = || Meter::new(golden.dialect, golden.endpoint, Framing::Json, Coding::Identity, false);
        let (mut whole, mut cut) = (meter(), meter());
        run(&mut whole, &[&text]);
        run(&mut cut, &text.as_bytes().chunks(1).collect::<Vec<_>>());
        prop_assert_eq!(whole.reported(), cut.reported());
        prop_assert_eq!(whole.output_bytes(), cut.output_bytes());
        prop_assert_eq!(whole.usage_or_estimate(5), cut.usage_or_estimate(5));
        prop_assert_eq!(whole.is_complete(), cut.is_complete());
    }

    #[test]
    fn no_bytes_at_all_break_the_meter_or_change_on_their_way(
        bytes in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(
                br#"{}[]",:\ deltusagcontn0123456789"#.iter().map(|b| vec![*b]).collect::<Vec<_>>(),
            ),
            2 => prop::sample::select(
                ["\"usage\":{", "data:", "\n\n", "\r\n\r\n", "\"choices\":[]", "\"delta\":", "\"message\":{", "-1e9"]
                    .map(|s| s.as_bytes().to_vec()).to_vec(),
            ),
            1 => any::<u8>().prop_map(|b| vec![b]),
        ], 0..120).prop_map(|parts| parts.concat()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        which in 0..ALL.len(),
        coding in prop::sample::select(vec![Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli]),
    ) {
        let golden = &ALL[which];
        let mut whole = meter(golden, coding);
        let mut cut = meter(golden, coding);
        prop_assert_eq!(&run(&mut whole, &[&bytes]), &bytes);
        prop_assert_eq!(&run(&mut cut, &pieces(&bytes, &cuts)), &bytes);
        if coding == Coding::Identity {
            prop_assert_eq!(whole.usage_or_estimate(5), cut.usage_or_estimate(5));
            prop_assert_eq!(whole.is_complete(), cut.is_complete());
            prop_assert_eq!(run(&mut chat(true), &[&bytes]), run(&mut chat(true), &pieces(&bytes, &cuts)));
        }
    }

    #[test]
    fn a_damaged_answer_is_passed_on_as_it_is_and_read_the_same_however_it_is_cut(
        which in 0..ALL.len(),
        other in 0..ALL.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        coding in prop::sample::select(vec![Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli]),
        strip: bool,
    ) {
        let (golden, read_as) = (&ALL[which], &ALL[other]);
        let mut bytes = coded(coding, golden.body.as_bytes());
        for (place, byte, kind) in damage {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => _ = bytes.remove(at),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let meter = || Meter::new(read_as.dialect, read_as.endpoint, golden.framing, coding, strip);
        let (mut whole, mut cut) = (meter(), meter());
        let passed = run(&mut whole, &[&bytes]);
        prop_assert_eq!(&run(&mut cut, &pieces(&bytes, &cuts)), &passed);
        if !strip || coding != Coding::Identity {
            prop_assert_eq!(passed, bytes);
        }
        if coding == Coding::Identity {
            prop_assert_eq!(whole.usage_or_estimate(5), cut.usage_or_estimate(5));
            prop_assert_eq!(whole.reported(), cut.reported());
            prop_assert_eq!(whole.is_complete(), cut.is_complete());
        }
    }
}
