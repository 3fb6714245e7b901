//! Images: small PNGs of one colour, which the prompt decides.

use http::StatusCode;
use serde_json::{Value, json};

use super::fingerprint::{Numbers, base64};
use super::report::with;
use super::wish::{count, text};
use super::{CREATED, Play, Request, named, wording};
use crate::policy::Endpoint;

/// The most images of one request.
const IMAGES: u64 = 10;
/// Width and height in pixels.
const SIDE: u8 = 16;

/// `/v1/images/generations`, `/edits` and `/variations`; one image is one output token.
pub(super) fn answer(request: &Request<'_>) -> Play {
    let images = count(&request.body, "n").unwrap_or(1).max(1);
    if images > IMAGES {
        let message = "The sandbox makes at most 10 images at once.";
        return wording::error(request.ask.dialect, StatusCode::BAD_REQUEST, message);
    }
    let mut colours = Numbers(request.seed);
    let pictures: Vec<String> = (0..images).map(|_| base64(&png(colours.next()))).collect();
    let usage = request.report.media(images, true);
    if request.stream {
        return stream(request, &pictures, usage);
    }
    let as_url = text(&request.body, "response_format") == Some("url");
    let pictures: Value = pictures
        .iter()
        .map(|picture| match as_url {
            true => json!({ "url": format!("data:image/png;base64,{picture}") }),
            false => json!({ "b64_json": picture }),
        })
        .collect();
    let answer = json!({
        "created": CREATED, "data": pictures, "background": "opaque", "output_format": "png", "quality": "low",
        "size": "1024x1024",
    });
    Play::json(&with(answer, "usage", usage))
}

fn stream(request: &Request<'_>, pictures: &[String], usage: Option<Value>) -> Play {
    let name = match request.ask.endpoint {
        Endpoint::ImageGenerations => "image_generation.completed",
        _ => "image_edit.completed",
    };
    let last = pictures.len().saturating_sub(1);
    let events = pictures.iter().enumerate().map(|(index, picture)| {
        let event = json!({
            "type": name, "b64_json": picture, "created_at": CREATED, "background": "opaque", "output_format": "png",
            "quality": "low", "size": "1024x1024",
        });
        // The usage is that of all images, so it comes once, with the last.
        named(name, &with(event, "usage", usage.clone().filter(|_| index == last)))
    });
    Play::events(events.collect())
}

/// A PNG (ISO/IEC 15948) of 16 by 16 pixels in one RGB colour, its data stored without compression.
fn png(colour: u64) -> Vec<u8> {
    let [red, green, blue, ..] = colour.to_le_bytes();
    let mut rows = Vec::new();
    for _ in 0..SIDE {
        rows.push(0); // this row is not filtered
        rows.extend([red, green, blue].repeat(usize::from(SIDE)));
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    // Width, height, 8 bits a channel, RGB, and the only methods there are.
    chunk(&mut file, *b"IHDR", &[0, 0, 0, SIDE, 0, 0, 0, SIDE, 8, 2, 0, 0, 0]);
    chunk(&mut file, *b"IDAT", &stored(&rows));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, name: [u8; 4], bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    let mut sum = crc32fast::Hasher::new();
    sum.update(&name);
    sum.update(bytes);
    file.extend(length.to_be_bytes());
    file.extend(name);
    file.extend(bytes);
    file.extend(sum.finalize().to_be_bytes());
}

/// A zlib stream (RFC 1950) of one stored block; `bytes` are fewer than 65,536.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or_default();
    let mut stream = vec![0x78, 0x01, 0x01];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(bytes);
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_pixels_of_a_picture_decode() {
        let file = png(0x0033_2211);
        let start = file.windows(4).position(|name| name == b"IDAT").unwrap() + 4;
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&file[start..]).read_to_end(&mut rows).unwrap();
        assert_eq!(rows.len(), 16 * (1 + 3 * 16));
        assert_eq!(rows[..7], [0, 0x11, 0x22, 0x33, 0x11, 0x22, 0x33]);
    }
}
