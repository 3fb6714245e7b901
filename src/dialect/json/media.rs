//! Base64 media inside a body. It counts flat towards a prompt's estimate, so it must be told from text, and only what a
//! backend would decode may be taken for it: the member's name and the content both have to say so.

/// Shorter base64 without a `data:` prefix counts by its length: a word can look like base64.
const BARE_MIN_BYTES: usize = 256;

/// How far into a `data:` URL its `;base64,` is looked for.
const PREFIX_MAX_BYTES: usize = 128;

/// What a string is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// By its length.
    Text,
    /// Flat.
    Media,
    /// Flat if its object says that it is media and nothing in it says that it is text, wherever those members stand.
    AsSaid,
}

/// What the string `raw` (as it is in the body) is that is the value of a member `name`, or an element of its array.
#[inline]
pub(super) fn sort(name: &[u8], raw: &[u8]) -> Sort {
    let is_url = raw.starts_with(b"data:");
    if is_url || raw.len() > BARE_MIN_BYTES { sort_long(is_url, name, raw) } else { Sort::Text }
}

fn sort_long(is_url: bool, name: &[u8], raw: &[u8]) -> Sort {
    match (is_url, has_media(name)) {
        (true, true) if is_data_url(raw) => Sort::Media,
        (false, true) if is_base64(raw) && is_general(name) => Sort::AsSaid,
        (false, true) if is_base64(raw) => Sort::Media,
        _ => Sort::Text,
    }
}

/// Whether the string `raw` that is the value of a member `name` says where something is that a backend reads beside the body.
#[inline]
pub(super) fn refers(name: &[u8], raw: &[u8]) -> bool {
    raw.starts_with(b"http") && is_place(name)
}

/// The member names under which the four APIs take what is elsewhere.
fn is_place(name: &[u8]) -> bool {
    matches!(name, b"url" | b"image_url" | b"audio_url" | b"video_url" | b"file_url" | b"fileUri" | b"file_uri")
}

/// Whether a member `name` without an escape can say anything of the data beside it: a quick look at the first letter of the names that
/// [`says_media`] knows.
#[inline]
pub(super) fn may_say(name: &[u8]) -> bool {
    matches!(name, [b't' | b'T' | b'm' | b'M' | b'f' | b'F', ..])
}

/// What the member `name` with the string `raw` says of the data beside it: true for media, false for text, or for something that
/// cannot be told. Names that a lenient reader may take for these are taken for them.
pub(super) fn says_media(name: &[u8], raw: &[u8]) -> Option<bool> {
    if name.contains(&b'\\') {
        return Some(false);
    }
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b"type") {
        match raw {
            b"base64" | b"image_generation_call" => Some(true),
            b"text" => Some(false),
            _ if raw.contains(&b'\\') => Some(false),
            _ => None,
        }
    } else if is(b"media_type") || is(b"mime_type") || is(b"mimeType") {
        Some(!is_text_type(raw))
    } else if is(b"format") {
        const SOUNDS: [&[u8]; 10] =
            [b"wav", b"mp3", b"flac", b"opus", b"pcm16", b"ogg", b"aac", b"m4a", b"webm", b"aiff"];
        SOUNDS.contains(&raw).then_some(true)
    } else {
        None
    }
}

/// Whether a media type is one of text, or none that can be told. A slash may be written `\/`.
fn is_text_type(raw: &[u8]) -> bool {
    let binary = [b"image".as_slice(), b"audio", b"video", b"application"];
    let end = raw.iter().position(|byte| matches!(byte, b'/' | b'\\')).unwrap_or(raw.len());
    let (kind, rest) = raw.split_at(end);
    let rest = rest.strip_prefix(b"\\/").or_else(|| rest.strip_prefix(b"/")).unwrap_or_default();
    let is_binary = binary.iter().any(|known| kind.eq_ignore_ascii_case(known)) && !rest.contains(&b'\\');
    let rest = rest.to_ascii_lowercase();
    let texts = [b"json".as_slice(), b"xml", b"yaml", b"script", b"csv", b"toml", b"sql", b"markdown", b"rtf"];
    !is_binary || rest.is_empty() || texts.iter().any(|text| memchr::memmem::find(&rest, text).is_some())
}

/// Names that text may have as well, such as the arguments and results of tools.
fn is_general(name: &[u8]) -> bool {
    matches!(name, b"data" | b"url" | b"file" | b"bytes" | b"result")
}

fn is_data_url(raw: &[u8]) -> bool {
    let head = raw.get(..PREFIX_MAX_BYTES).unwrap_or(raw);
    let Some(marker) = memchr::memmem::find(head, b";base64,") else { return false };
    !is_text_type(head.get(b"data:".len()..marker).unwrap_or_default())
        && is_base64(raw.get(marker + b";base64,".len()..).unwrap_or_default())
}

/// The member names under which the four APIs, and the servers that imitate them, take base64.
fn has_media(name: &[u8]) -> bool {
    matches!(
        name,
        b"data"
            | b"url"
            | b"image_url"
            | b"file_data"
            | b"b64_json"
            | b"image"
            | b"images"
            | b"mask"
            | b"audio"
            | b"audio_url"
            | b"video"
            | b"video_url"
            | b"input_image"
            | b"input_audio"
            | b"file"
            | b"bytes"
            | b"bytesBase64Encoded"
            | b"result"
    )
}

/// Both alphabets, padding, and the backslash: some encoders write `\/` and `\u002B`.
fn is_base64(raw: &[u8]) -> bool {
    raw.chunks(64).all(|block| block.iter().fold(true, |all, byte| all & is_base64_byte(*byte)))
}

fn is_base64_byte(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let digit = byte.wrapping_sub(b'/') < 11; // '/' and the ten digits
    letter | digit | (byte == b'+') | (byte == b'-') | (byte == b'_') | (byte == b'=') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_media(name: &[u8], raw: &[u8]) -> bool {
        sort(name, raw) == Sort::Media
    }

    #[test]
    fn media_is_told_by_name_and_content_together() {
        let long = "iVBORw0KGgo".repeat(40);
        let url = format!("data:image/png;base64,{long}");
        assert_eq!(sort(b"data", long.as_bytes()), Sort::AsSaid);
        assert!(is_media(b"b64_json", long.as_bytes()));
        assert!(is_media(b"url", url.as_bytes()));
        assert!(is_media(b"url", b"data:image/png;base64,AAAA"));
        assert!(is_media(b"image_url", b"data:image\\/png;base64,AA\\/A\\u002B=="));
        assert!(!is_media(b"text", url.as_bytes()), "a prompt that looks like media is text");
        assert!(!is_media(b"data", b"QUJD"), "a short word is text");
        assert!(!is_media(b"data", format!("{long} and words").as_bytes()));
        assert!(!is_media(b"url", format!("data:text/plain,{long}").as_bytes()));
        assert!(!is_media(b"url", format!("data:text/plain;base64,{long}").as_bytes()), "encoded text is text");
        assert!(!is_media(b"url", format!("data:;base64,{long}").as_bytes()), "and so is what has no type");
    }

    #[test]
    fn what_is_elsewhere_is_told_by_name_and_place() {
        assert!(refers(b"url", b"https://example.org/cat.png") && refers(b"fileUri", b"http://h/f"));
        assert!(!refers(b"text", b"https://example.org/cat.png"), "a prompt that names a page");
        assert!(!refers(b"url", b"data:image/png;base64,AAAA") && !refers(b"url", b"htt"));
    }

    #[test]
    fn what_stands_beside_data_says_what_it_is() {
        for (name, raw, said) in [
            ("type", "base64", Some(true)),
            ("type", "text", Some(false)),
            ("type", "te\\u0078t", Some(false)),
            ("type", "image", None),
            ("media_type", "application/pdf", Some(true)),
            ("mimeType", "image\\/png", Some(true)),
            ("mime_type", "text/plain", Some(false)),
            ("media_type", "application/json", Some(false)),
            ("media_type", "image\\/p\\u006eg", Some(false)),
            ("media_typ\\u0065", "image/png", Some(false)),
            ("format", "wav", Some(true)),
            ("Type", "text", Some(false)),
            ("Media_Type", "image/png", Some(true)),
            ("MIMETYPE", "text/plain", Some(false)),
            ("FORMAT", "mp3", Some(true)),
            ("text", "base64", None),
        ] {
            assert_eq!(says_media(name.as_bytes(), raw.as_bytes()), said, "{name} {raw}");
            assert!(said.is_none() || name.contains('\\') || may_say(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_alphabet_is_that_of_rfc_4648() {
        let taken: Vec<u8> = (0..=255).filter(|byte| is_base64_byte(*byte)).collect();
        assert_eq!(taken, b"+-/0123456789=ABCDEFGHIJKLMNOPQRSTUVWXYZ\\_abcdefghijklmnopqrstuvwxyz");
    }
}
