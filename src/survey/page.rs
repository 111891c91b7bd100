//! The page of a survey: one file without anything from elsewhere.

use std::collections::BTreeMap;

use serde_json::json;

use super::{CLIPS, HEARD, Key, KeyPair, Options, score};
use crate::xml::escape;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of the survey with this key, of which it holds what listeners may know.
pub(super) fn page(key: &Key, options: &Options) -> String {
    let pair = |pair: &KeyPair| {
        let mut clips = pair.clips.each_ref().map(|clip| &clip.clip);
        clips.sort();
        let seconds = pair.frames as f64 / f64::from(key.rate);
        json!({"pair": pair.pair, "seconds": seconds, "need": seconds.min(HEARD), "clips": clips})
    };
    let data = json!({
        "survey": key.survey,
        "title": key.title,
        "question": key.question,
        "closing": options.closing,
        "folder": CLIPS,
        "familiarity": score::FAMILIARITY,
        "format": score::FORMAT,
        "version": score::VERSION,
        "pairs": key.pairs.iter().map(pair).collect::<Vec<_>>(),
    });
    // A string in it must not end the element that it stands in.
    let data = data.to_string().replace('<', "\\u003c");
    let title = escape(&key.title);
    let parts = BTreeMap::from([("TITLE", title.as_str()), ("STYLE", STYLE), ("SCRIPT", SCRIPT), ("DATA", &data)]);
    filled(PAGE, &parts)
}

/// `template` with each `{{NAME}}` replaced by the part of this name, which is not looked at again.
fn filled(template: &str, parts: &BTreeMap<&str, &str>) -> String {
    let mut pieces = template.split("{{");
    let mut page = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        match piece.split_once("}}") {
            Some((name, rest)) => page.extend([parts.get(name).copied().unwrap_or_default(), rest]),
            None => page.push_str(piece),
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::KeyClip;

    #[test]
    fn the_page_holds_all_parts_and_no_side() {
        let clip = |name: &str, file: &str| KeyClip { clip: name.into(), file: file.into(), gain: 0.0, crc32c: 0 };
        let pairs = vec![KeyPair { pair: "p1".into(), frames: 441, clips: [clip("ff", "ours"), clip("aa", "theirs")] }];
        let title = "</script> & {{DATA}}".to_string();
        let key = Key {
            survey: "1234".into(),
            title,
            names: ["ours".into(), "theirs".into()],
            rate: 44_100,
            pairs,
            ..Key::default()
        };
        let page = page(&key, &Options::default());
        assert!(page.contains("<title>&lt;/script&gt; &amp; {{DATA}}</title>"), "{page}");
        assert!(page.contains(r#""clips":["aa","ff"]"#) && page.contains(r#""title":"\u003c/script> & {{DATA}}""#));
        assert!(!page.contains("ours") && !page.contains("theirs"), "{page}");
        assert_eq!(page.matches("</script>").count(), 2);
        // Nothing from elsewhere.
        assert!(!page.contains("http") && !page.contains("import "), "{page}");
    }
}
