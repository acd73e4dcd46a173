//! MQTT 5 packets as bytes: enough to look into what passes, to change it, and to make what no honest broker would send.

/// The longest packet that MQTT can have, header included, in bytes.
const LONGEST: usize = 5 + 0x0fff_ffff;

/// Kinds of packets, as the upper half of their first byte says (MQTT 5, 2.1.2).
pub mod kind {
    /// CONNECT
    pub const CONNECT: u8 = 1;
    /// CONNACK
    pub const CONNACK: u8 = 2;
    /// PUBLISH
    pub const PUBLISH: u8 = 3;
    /// PUBACK
    pub const PUBACK: u8 = 4;
    /// PUBREC
    pub const PUBREC: u8 = 5;
    /// PUBREL
    pub const PUBREL: u8 = 6;
    /// PUBCOMP
    pub const PUBCOMP: u8 = 7;
    /// SUBSCRIBE
    pub const SUBSCRIBE: u8 = 8;
    /// SUBACK
    pub const SUBACK: u8 = 9;
    /// UNSUBSCRIBE
    pub const UNSUBSCRIBE: u8 = 10;
    /// UNSUBACK
    pub const UNSUBACK: u8 = 11;
    /// PINGREQ
    pub const PINGREQ: u8 = 12;
    /// PINGRESP
    pub const PINGRESP: u8 = 13;
    /// DISCONNECT
    pub const DISCONNECT: u8 = 14;
}

/// One packet, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet(pub Vec<u8>);

/// What stands in a PUBLISH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// The topic.
    pub topic: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The broker had kept it, or is to keep it.
    pub retain: bool,
    /// It is sent again.
    pub dup: bool,
    /// Its packet id; not sent at QoS 0.
    pub id: u16,
    /// The properties as they are sent, without their length.
    pub properties: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A packet with this first byte and body.
    pub fn new(first: u8, body: &[u8]) -> Self {
        let mut bytes = vec![first];
        put_length(&mut bytes, body.len());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    /// A CONNACK that takes the connection, with these properties.
    pub fn connack(properties: &[u8]) -> Self {
        let mut body = vec![0, 0];
        put_length(&mut body, properties.len());
        body.extend_from_slice(properties);
        Self::new(kind::CONNACK << 4, &body)
    }

    /// A packet of a kind that carries a packet id, a reason and no properties: PUBACK, PUBREC, PUBREL, PUBCOMP.
    pub fn answer(kind: u8, id: u16, reason: u8) -> Self {
        let flags = if kind == kind::PUBREL { 2 } else { 0 };
        let [high, low] = id.to_be_bytes();
        Self::new(kind << 4 | flags, &[high, low, reason, 0])
    }

    /// Its kind, one of [`kind`].
    pub fn kind(&self) -> u8 {
        self.0.first().map_or(0, |first| first >> 4)
    }

    /// What follows the fixed header.
    pub fn body(&self) -> &[u8] {
        match header(&self.0) {
            Header::Whole { start, .. } => self.0.get(start..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Its packet id, where its kind has one.
    pub fn id(&self) -> Option<u16> {
        match self.kind() {
            kind::PUBLISH => self.publication().filter(|publication| publication.qos > 0).map(|found| found.id),
            kind::PUBACK..=kind::UNSUBACK => number(self.body(), 0),
            _ => None,
        }
    }

    /// What it publishes, if it is a PUBLISH that can be read.
    pub fn publication(&self) -> Option<Publication> {
        if self.kind() != kind::PUBLISH {
            return None;
        }
        let (first, body) = (*self.0.first()?, self.body());
        let qos = first >> 1 & 3;
        let length = usize::from(number(body, 0)?);
        let topic = String::from_utf8(body.get(2..2 + length)?.to_vec()).ok()?;
        let mut at = 2 + length;
        let id = if qos > 0 { number(body, at)? } else { 0 };
        at += if qos > 0 { 2 } else { 0 };
        let (length, digits) = variable(body.get(at..)?)?;
        at += digits;
        let properties = body.get(at..at + length)?.to_vec();
        let payload = body.get(at + length..)?.to_vec();
        Some(Publication { topic, qos, retain: first & 1 == 1, dup: first & 8 == 8, id, properties, payload })
    }

    /// The filters of a SUBSCRIBE or UNSUBSCRIBE.
    pub fn filters(&self) -> Vec<String> {
        let subscribe = self.kind() == kind::SUBSCRIBE;
        let body = self.body();
        let mut filters = Vec::new();
        let Some((length, digits)) = body.get(2..).and_then(variable) else { return filters };
        let mut at = 2 + digits + length;
        while let Some(length) = number(body, at).map(usize::from) {
            let Some(filter) = body.get(at + 2..at + 2 + length) else { break };
            filters.push(String::from_utf8_lossy(filter).into_owned());
            at += 2 + length + usize::from(subscribe);
        }
        filters
    }

    /// Takes the first packet off `bytes`, once it is there as a whole. What has no length that MQTT allows is taken as it is.
    pub(super) fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        match header(bytes) {
            Header::Partial => None,
            Header::Whole { start, length } if bytes.len() >= start + length => {
                let rest = bytes.split_off(start + length);
                Some(Self(std::mem::replace(bytes, rest)))
            }
            Header::Whole { .. } => None,
            Header::Wrong => Some(Self(std::mem::take(bytes))),
        }
    }
}

impl Publication {
    /// The packet that says so.
    pub fn packet(&self) -> Packet {
        let mut body = Vec::with_capacity(self.topic.len() + self.properties.len() + self.payload.len() + 16);
        put_text(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend_from_slice(&self.id.to_be_bytes());
        }
        put_length(&mut body, self.properties.len());
        body.extend_from_slice(&self.properties);
        body.extend_from_slice(&self.payload);
        let flags = u8::from(self.dup) << 3 | (self.qos & 3) << 1 | u8::from(self.retain);
        Packet::new(kind::PUBLISH << 4 | flags, &body)
    }
}

/// Appends text with its length before it.
pub fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(text);
}

/// Appends a length of variable size.
pub fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    assert!(length < LONGEST, "no MQTT packet is that long");
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { digit | 128 } else { digit });
        if length == 0 {
            return;
        }
    }
}

enum Header {
    /// More bytes are needed.
    Partial,
    /// The body starts there and has that length.
    Whole { start: usize, length: usize },
    /// It is no MQTT.
    Wrong,
}

fn header(bytes: &[u8]) -> Header {
    let Some(after) = bytes.get(1..) else { return Header::Partial };
    match variable(after) {
        Some((length, digits)) => Header::Whole { start: 1 + digits, length },
        None if after.len() < 4 => Header::Partial,
        None => Header::Wrong,
    }
}

/// A length of variable size, and how many bytes it takes.
fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            return Some((length, at + 1));
        }
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_as_it_was_made() {
        for (qos, length) in [(0, 0), (1, 5), (2, 200), (1, 20_000)] {
            let made = Publication {
                topic: "a/b".to_owned(),
                qos,
                retain: qos == 1,
                dup: qos == 2,
                id: if qos > 0 { 515 } else { 0 },
                properties: vec![0x01, 1],
                payload: vec![7; length],
            };
            let packet = made.packet();
            assert_eq!((packet.publication(), packet.id().is_some()), (Some(made), qos > 0));
        }
    }

    #[test]
    fn packets_are_taken_one_by_one_however_they_come() {
        let first = Publication { topic: "t".to_owned(), payload: vec![1; 300], ..Publication::default() }.packet();
        let second = Packet::answer(kind::PUBACK, 9, 0);
        let all = [first.0.clone(), second.0.clone()].concat();
        let (mut bytes, mut taken) = (Vec::new(), Vec::new());
        for byte in all {
            bytes.push(byte);
            taken.extend(Packet::take(&mut bytes));
        }
        assert_eq!(taken, [first, second]);
        assert_eq!(taken[1].id(), Some(9));
    }

    #[test]
    fn the_filters_of_a_subscribe_are_found() {
        let subscribe = Packet::new(0x82, &[0, 7, 0, 0, 1, b'a', 1, 0, 3, b'b', b'/', b'+', 1]);
        assert_eq!((subscribe.id(), subscribe.filters()), (Some(7), vec!["a".to_owned(), "b/+".to_owned()]));
        let unsubscribe = Packet::new(0xa2, &[0, 7, 0, 0, 1, b'a', 0, 1, b'b']);
        assert_eq!(unsubscribe.filters(), ["a", "b"]);
    }
}
