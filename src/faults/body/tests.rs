use futures_util::stream;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};

use super::*;

/// How a body came.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    bytes: Vec<u8>,
    /// The error at its end.
    broke: Option<String>,
    took: Duration,
    /// The largest number of bytes at once.
    largest: usize,
}

async fn read<B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin>(
    mut body: Spoilt<B>,
) -> Came {
    let began = Instant::now();
    let (mut bytes, mut broke, mut largest) = (Vec::new(), None, 0);
    // A server does not look behind an end that it can see.
    while !body.is_end_stream() {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap();
                largest = largest.max(data.len());
                bytes.extend_from_slice(&data);
            }
            Some(Err(error)) => {
                broke = Some(error.to_string());
                break;
            }
        }
    }
    Came { bytes, broke, took: began.elapsed(), largest }
}

fn known(size: usize) -> Full<Bytes> {
    Full::new((0..size).map(|n| n as u8).collect::<Vec<u8>>().into())
}

/// A body of pieces whose length nobody knows.
fn pieces(sizes: &[usize]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
    let all: Vec<u8> = (0..sizes.iter().sum()).map(|n: usize| n as u8).collect();
    let mut rest = Bytes::from(all);
    let pieces: Vec<_> = sizes.iter().map(|size| Ok(Frame::data(rest.split_to(*size)))).collect();
    StreamBody::new(stream::iter(pieces))
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|n| n as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn as_it_is_means_that() {
    let body = Spoilt::new(known(1000), Manner::AsItIs);
    assert_eq!(body.size_hint().exact(), Some(1000));
    let want = Came { bytes: numbers(1000), broke: None, took: Duration::ZERO, largest: 1000 };
    assert_eq!(read(body).await, want);
    assert_eq!(
        read(Spoilt::new(pieces(&[1, 500, 499]), Manner::AsItIs)).await,
        Came { largest: 500, ..want }
    );
    assert!(Spoilt::new(Empty::<Bytes>::new(), Manner::AsItIs).is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_takes_its_time_in_small_steps() {
    for bytes_per_second in [1, 19, 20, 1000, 1_000_000] {
        let body = Spoilt::new(pieces(&[700, 1300]), Manner::Slow { bytes_per_second });
        let came = read(body).await;
        assert_eq!((came.bytes, came.broke), (numbers(2000), None));
        let due = 2000.0 / bytes_per_second as f64;
        let took = came.took.as_secs_f64();
        // Timers tick in milliseconds.
        assert!(took >= due && took < due * 1.05 + 0.02, "{took} s for {due} s");
        assert!(came.largest as u64 <= (bytes_per_second / STEPS_PER_SECOND).max(1), "{}", came.largest);
    }
}

#[tokio::test(start_paused = true)]
async fn cuts_and_stalls_come_after_exactly_so_many_bytes() {
    for size in [0, 1, 699, 700, 701, 1999] {
        for (then, after) in [(Then::Break, BEFORE_BREAK), (Then::Stall, LONGEST_STALL)] {
            for is_known in [false, true] {
                let manner = Manner::Until { size: size as u64, then };
                let came = match is_known {
                    true => read(Spoilt::new(known(2000), manner)).await,
                    false => read(Spoilt::new(pieces(&[700, 1300]), manner)).await,
                };
                let broke = Some(Broken::OnPurpose.to_string());
                assert_eq!(
                    (came.bytes, came.broke, came.took),
                    (numbers(size), broke, after),
                    "{size} {then:?}"
                );
            }
        }
    }
    let short = read(Spoilt::new(pieces(&[7]), Manner::Until { size: 10, then: Then::Break })).await;
    assert_eq!((short.bytes, short.broke.is_some()), (numbers(7), true), "the end is no clean one");
}

#[tokio::test(start_paused = true)]
async fn one_bit_is_another() {
    for at in [0, 699, 700, 1999] {
        let came = read(Spoilt::new(pieces(&[700, 1300]), Manner::WrongByte { at: at as u64 })).await;
        let mut want = numbers(2000);
        want[at] ^= 1;
        assert!(came.bytes == want && came.broke.is_none(), "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_length_ends_cleanly_only_where_it_is_kept() {
    for (size, as_size, is_broken) in [(10, 15, true), (0, 1, true), (10, 6, false), (10, 0, false)] {
        let body = Spoilt::new(known(size as usize), Manner::Announced { size, as_size });
        assert_eq!(body.size_hint().exact(), Some(as_size), "what is announced");
        let came = read(body).await;
        assert_eq!((came.bytes, came.broke.is_some()), (numbers(size.min(as_size) as usize), is_broken));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_or_is_silent_breaks_the_body() {
    let broken =
        stream::iter([Ok(Frame::data(Bytes::from_static(b"ab"))), Err(std::io::Error::other("gone"))]);
    let came = read(Spoilt::new(StreamBody::new(broken), Manner::AsItIs)).await;
    assert_eq!(
        (&came.bytes[..], came.broke.as_deref()),
        (&b"ab"[..], Some("the connection to the server broke"))
    );
    let silent = stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
    let came = read(Spoilt::new(StreamBody::new(silent), Manner::AsItIs)).await;
    assert_eq!((came.broke.as_deref(), came.took), (Some("nothing came for 300 s"), SILENCE));
}
