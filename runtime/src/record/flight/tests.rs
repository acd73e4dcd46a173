#![allow(clippy::unwrap_used)]

use sanderling_protocol::flight::Header;

use super::*;

static LONG: [u8; 100_000] = [7; 100_000];

fn header(flight: &Flight) -> Header {
    let recorded = flight.recorded();
    Header::read(recorded, recorded.len()).unwrap().unwrap()
}

/// A recorder to which frames of this length are not worth their copy.
fn hurried() -> Flight {
    let mut flight = Flight::new(Region::owned(1 << 20));
    flight.whole = true;
    flight.instance();
    flight.worked(10);
    flight.frame(&[0; FRAME_HEADER], &LONG);
    assert_eq!(header(&flight).basis, Basis::Nothing);
    flight
}

fn give(flight: &mut Flight, content: &[u8]) {
    if flight.wants_snapshot(content.len()) {
        flight.write_snapshot(|to| to.put(b"state"));
        flight.paid(1_000_000);
    }
    flight.frame(&[1; FRAME_HEADER], content);
    flight.worked(10);
}

#[test]
fn a_frame_that_is_wanted_is_recorded_whatever_it_costs_and_the_record_stands_still_until_it_is_released() {
    let mut flight = hurried();
    give(&mut flight, &LONG);
    assert_eq!(header(&flight).basis, Basis::Nothing, "nobody wants it");
    flight.want();
    give(&mut flight, &LONG);
    flight.hold(([1; FRAME_HEADER], &LONG), Some(9));
    let held = flight.recorded().to_vec();
    assert_eq!((header(&flight).basis, header(&flight).frame.unwrap().1), (Basis::Snapshot, LONG.len()));
    for _ in 0..100 {
        flight.worked(u64::from(u32::MAX));
        give(&mut flight, b"short");
        flight.instance();
    }
    assert!(flight.recorded() == held);
    flight.release();
    flight.worked(u64::from(u32::MAX));
    give(&mut flight, b"short");
    assert_eq!((header(&flight).basis, header(&flight).frame.unwrap().1), (Basis::Snapshot, 5));
}

#[test]
fn of_a_guest_whose_state_is_not_all_visible_the_frame_alone_is_held() {
    let mut flight = hurried();
    flight.whole = false;
    flight.want();
    give(&mut flight, &LONG);
    flight.hold(([1; FRAME_HEADER], &LONG), None);
    assert_eq!((header(&flight).basis, header(&flight).frame.unwrap().1), (Basis::Nothing, LONG.len()));
}

#[test]
fn a_fault_is_recorded_also_while_a_record_is_held() {
    let mut flight = hurried();
    flight.want();
    give(&mut flight, b"first");
    flight.hold(([1; FRAME_HEADER], b"first"), None);
    flight.frame(&[2; FRAME_HEADER], b"second");
    let fault = Fault::new(sanderling_protocol::worker::FaultCode::Trap, "why");
    flight.fault(&fault, Some(([2; FRAME_HEADER], b"second")));
    let (at, length) = header(&flight).frame.unwrap();
    assert_eq!(&flight.recorded()[at..at + length], b"second");
}
