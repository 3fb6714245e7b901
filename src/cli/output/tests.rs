//! Tables that fit, and text that cannot touch the terminal.

use serde_json::json;

use super::*;

const COLUMNS: [Column; 3] = [Column::text("ID", 0), Column::number("RPM", 1), Column::text("MODELS", 2)];

fn screen(width: Option<u16>) -> Screen {
    Screen { width, is_coloured: false }
}

fn rows(rows: &[[&str; 3]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|text| (*text).to_owned()).collect()).collect()
}

#[test]
fn pages_share_one_head_and_their_columns_stand_in_line() {
    let mut grid = Grid::new(&COLUMNS, screen(None));
    let first = grid.page(&rows(&[["aaaaaa", "60", "gpt-4o*"]]));
    assert_eq!(first, "ID      RPM  MODELS\naaaaaa   60  gpt-4o*\n");
    assert_eq!(grid.page(&rows(&[["b", "7", "x"]])), "b         7  x\n");
}

#[test]
fn the_least_important_columns_go_first_and_lines_never_pass_the_screen() {
    let row = [["0123456789", "600000", "a-model-with-a-long-name"]];
    let wide = Grid::new(&COLUMNS, screen(Some(80))).page(&rows(&row));
    assert!(wide.contains("MODELS") && wide.contains("600000"));
    let narrow = Grid::new(&COLUMNS, screen(Some(24))).page(&rows(&row));
    assert_eq!(narrow, "ID             RPM\n0123456789  600000\n");
    for width in 4..80 {
        let text = Grid::new(&COLUMNS, screen(Some(width))).page(&rows(&row));
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{width}:\n{text}");
        assert!(text.contains("ID"), "{width}:\n{text}");
    }
}

#[test]
fn sentences_wrap_before_a_column_is_left_out() {
    let columns = [Column::text("ID", 0), Column::text("KEY", 1), Column::prose("WHY", 2)];
    let row =
        [["0123456789", "abcdefghij", "a sentence that is longer than the thirty characters it is given at least"]];
    let text = Grid::new(&columns, screen(Some(60))).page(&rows(&row));
    assert!(text.contains("WHY") && text.contains("abcdefghij") && text.lines().count() > 2, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    let narrow = Grid::new(&columns, screen(Some(30))).page(&rows(&row));
    assert!(!narrow.contains("WHY") && narrow.contains("abcdefghij"), "{narrow}");
}

#[test]
fn states_are_coloured_only_where_colours_are_shown() {
    let rows = [("status".to_owned(), "active".to_owned())];
    assert!(card(&rows, Screen { width: Some(80), is_coloured: true }).contains("\u{1b}["));
    assert_eq!(card(&rows, screen(Some(80))), "status  active\n");
}

#[test]
fn a_secret_that_was_replaced_is_told_in_words_its_prefix_first() {
    let old = json!([
        {"last_used_at": null, "prefix": "sk-kw-aaaaaa", "until": "2027-01-02T03:04:05.678Z", "uses": 0},
        {"last_used_at": "2027-01-01T00:00:00Z", "prefix": "sk-kw-b\u{1b}", "until": "2027-01-03T00:00:00Z", "uses": 1},
    ]);
    let expected = "sk-kw-aaaaaa until 2027-01-02 03:04:05, 0 uses since it was replaced, last used never; \
        sk-kw-b\\u{1b} until 2027-01-03 00:00:00, 1 use since it was replaced, last used 2027-01-01 00:00:00";
    assert_eq!(text_of(&old), expected);
    assert_eq!(text_of(&json!({"prefix": "a", "until": "2027-01-03T00:00:00Z"})), "a until 2027-01-03 00:00:00");
}

#[test]
fn text_that_is_not_seen_is_shown() {
    for trick in ["\u{200b}", "\u{feff}", "\u{2028}", "\u{2029}", "\u{61c}", "\u{ad}", "\u{2060}", "\u{e0041}"] {
        assert!(plain(&format!("ad{trick}min")).starts_with("ad\\u{"), "{}", trick.escape_unicode());
    }
    for text in ["\u{1f468}\u{200d}\u{1f469}", "می\u{200c}خواهم", "e\u{301}"] {
        assert_eq!(plain(text), text);
    }
}

#[test]
fn text_of_others_cannot_move_the_cursor() {
    assert_eq!(plain("naïve 名 name"), "naïve 名 name");
    assert_eq!(plain("a\u{1b}[2Jb\r\n\u{202e}c"), "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}c");
    assert_eq!(text_of(&json!({"a\u{7}": ["x\ty", null, true, 1.5]})), "a\\u{7}=x\\u{9}y, -, yes, 1.5");
    assert_eq!((text_of(&json!([])), text_of(&json!({})), text_of(&json!(""))), ("-".into(), "-".into(), "-".into()));
    assert_eq!(minute_of(&json!("2027-01-02T03:04:05.678Z")), "2027-01-02 03:04");
    assert_eq!(minute_of(&json!(null)), "-");
}

#[test]
fn json_for_eyes_keeps_the_order_of_names() {
    let text = indented(r#"{"b":1,"a":[{"z":null,"y":18446744073709551615}]}"#).expect("JSON");
    let order = ["\"b\"", "\"a\"", "\"z\"", "\"y\": 18446744073709551615"].map(|name| text.find(name));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{text}");
}
