//! Base64 media inside a body. It counts flat towards a prompt's estimate, so it must be told from text, and only what a
//! backend would decode may be taken for it: the member's name and the content both have to say so.

/// Shorter base64 without a `data:` prefix counts by its length: a word can look like base64.
const BARE_MIN_BYTES: usize = 256;

/// How far into a `data:` URL its `;base64,` is looked for.
const PREFIX_MAX_BYTES: usize = 128;

/// Whether the string `raw` (as it is in the body) that is the value of a member `name`, or an element of its array, is
/// base64 media.
pub(super) fn is_media(name: &[u8], raw: &[u8]) -> bool {
    let is_url = raw.starts_with(b"data:");
    if !is_url && raw.len() <= BARE_MIN_BYTES {
        return false;
    }
    has_media(name) && if is_url { is_data_url(raw) } else { is_base64(raw) }
}

fn is_data_url(raw: &[u8]) -> bool {
    let head = raw.get(..PREFIX_MAX_BYTES).unwrap_or(raw);
    let Some(marker) = memchr::memmem::find(head, b";base64,") else { return false };
    is_base64(raw.get(marker + b";base64,".len()..).unwrap_or_default())
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

    #[test]
    fn media_is_told_by_name_and_content_together() {
        let long = "iVBORw0KGgo".repeat(40);
        let url = format!("data:image/png;base64,{long}");
        assert!(is_media(b"data", long.as_bytes()));
        assert!(is_media(b"url", url.as_bytes()));
        assert!(is_media(b"url", b"data:image/png;base64,AAAA"));
        assert!(is_media(b"image_url", b"data:image\\/png;base64,AA\\/A\\u002B=="));
        assert!(!is_media(b"text", url.as_bytes()), "a prompt that looks like media is text");
        assert!(!is_media(b"data", b"QUJD"), "a short word is text");
        assert!(!is_media(b"data", format!("{long} and words").as_bytes()));
        assert!(!is_media(b"url", format!("data:text/plain,{long}").as_bytes()));
    }

    #[test]
    fn the_alphabet_is_that_of_rfc_4648() {
        let taken: Vec<u8> = (0..=255).filter(|byte| is_base64_byte(*byte)).collect();
        assert_eq!(taken, b"+-/0123456789=ABCDEFGHIJKLMNOPQRSTUVWXYZ\\_abcdefghijklmnopqrstuvwxyz");
    }
}
