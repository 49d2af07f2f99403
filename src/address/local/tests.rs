use super::*;

fn listen(text: &str) -> LocalAddress {
    LocalAddress::parse_listen(text).unwrap_or_else(|e| panic!("{e}"))
}

fn target(text: &str) -> LocalAddress {
    LocalAddress::parse_target(text).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(result: Result<LocalAddress>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.status, Status::BadAddress);
    assert!(error.message.len() <= crate::error::MESSAGE_MAX);
    error.message
}

#[test]
fn every_form_is_read_on_both_sides_and_equal_by_value() {
    for (forms, short, multiaddr) in [
        (
            &["127.0.0.1:8080", ":8080", "8080", "08080", "/ip4/127.0.0.1/tcp/8080", "/ip4/127.0.0.1/tcp/8080/"][..],
            "127.0.0.1:8080",
            "/ip4/127.0.0.1/tcp/8080",
        ),
        (&["/dns4/localhost/tcp/8080"], "127.0.0.1:8080", "/ip4/127.0.0.1/tcp/8080"),
        (
            &["[::1]:8080", "[0:0::1]:8080", "/ip6/::1/tcp/8080", "/dns6/localhost/tcp/8080"],
            "[::1]:8080",
            "/ip6/::1/tcp/8080",
        ),
        (&["[fe80::1%3]:80", "/ip6zone/3/ip6/fe80::1/tcp/80"], "[fe80::1%3]:80", "/ip6zone/3/ip6/fe80::1/tcp/80"),
        (
            &["localhost:8080", "LocalHost:8080", "localhost.:8080", "/dns/localhost/tcp/8080"],
            "localhost:8080",
            "/dns/localhost/tcp/8080",
        ),
        (&["192.168.1.2:1"], "192.168.1.2:1", "/ip4/192.168.1.2/tcp/1"),
        (
            &[
                "unix:/run/app.sock",
                "/unix/run/app.sock",
                "unix:///run/app.sock",
                "unix:/run//app.sock",
                "unix:/run/./app.sock",
            ],
            "unix:/run/app.sock",
            "/unix/run/app.sock",
        ),
        (&["unix:/tmp/with space/p2p/x"], "unix:/tmp/with space/p2p/x", "/unix/tmp/with space/p2p/x"),
    ] {
        let first = listen(forms[0]);
        assert_eq!(first.to_string(), short);
        assert_eq!(first.to_multiaddr_text(), multiaddr);
        for form in forms.iter().copied().chain([short, multiaddr]) {
            assert_eq!(listen(form), first, "{form}");
            assert_eq!(target(form), first, "{form}");
        }
    }
}

#[test]
fn host_names_are_targets_only() {
    for (forms, family, short, multiaddr) in [
        (
            &["Name.Example:8080", "/dns/name.example/tcp/8080"][..],
            DnsFamily::Any,
            "name.example:8080",
            "/dns/name.example/tcp/8080",
        ),
        (&["/dns4/name.example/tcp/8080"], DnsFamily::V4, "/dns4/name.example/tcp/8080", "/dns4/name.example/tcp/8080"),
        (&["/dns6/name.example/tcp/8080"], DnsFamily::V6, "/dns6/name.example/tcp/8080", "/dns6/name.example/tcp/8080"),
    ] {
        let expected = LocalAddress::Dns { name: "name.example".into(), port: 8080, family };
        assert_eq!((expected.to_string().as_str(), expected.to_multiaddr_text().as_str()), (short, multiaddr));
        for form in forms.iter().copied().chain([short, multiaddr]) {
            assert_eq!(target(form), expected);
            assert_eq!(
                refusal(LocalAddress::parse_listen(form)),
                format!(
                    "listen address '{form}' is a host name; listen on an IP address or on localhost, \
                     for example 127.0.0.1:8080"
                )
            );
        }
    }
}

#[test]
fn all_interfaces_only_when_spelled() {
    for text in ["0.0.0.0:80", "[::]:80", "/ip4/0.0.0.0/tcp/80", "/ip6/::/tcp/0", "[::ffff:0.0.0.0]:80"] {
        assert!(listen(text).all_interfaces(), "{text}");
    }
    for text in ["80", ":80", "localhost:80", "127.0.0.1:80", "[::1]:80", "10.0.0.1:80", "unix:/run/a"] {
        assert!(!listen(text).all_interfaces(), "{text}");
    }
}

#[test]
fn the_bound_port_replaces_the_one_asked_for() {
    assert_eq!(listen("[::1]:0").with_port(7).to_string(), "[::1]:7");
    assert_eq!(listen("localhost:0").with_port(7).to_string(), "localhost:7");
    assert_eq!(target("a:1").with_port(7).port(), Some(7));
    assert_eq!(listen("unix:/run/a").with_port(7).port(), None);
}

#[test]
fn targets_need_a_port_and_a_host_that_can_be_dialled() {
    for (text, why) in [
        ("0", "has port 0; write the port of the service"),
        ("name.example:0", "has port 0; write the port of the service"),
        ("0.0.0.0:80", "stands for all interfaces and can not be dialled; write 127.0.0.1:80"),
        ("/ip6/::/tcp/80", "stands for all interfaces and can not be dialled; write [::1]:80"),
    ] {
        assert_eq!(refusal(LocalAddress::parse_target(text)), format!("target address '{text}' {why}"));
        if !text.contains("name") {
            listen(text);
        }
    }
}

#[test]
fn malformed_addresses_are_refused_by_name_with_what_would_be_right() {
    let long_host = format!("{}.example", "a".repeat(64));
    for (text, why) in [
        ("127.0.0.1", "has no port; write for example 127.0.0.1:8080"),
        ("name.example", "has no port; write for example name.example:8080"),
        ("127.0.0.1:", "has no port; it ends with a number from 0 to 65535"),
        (":", "has no port; it ends with a number from 0 to 65535"),
        ("[::1]", "has no port; write for example [::1]:8080"),
        ("[::1:80", "has no ']'; write for example [::1]:8080"),
        ("[::g]:80", "has '::g', which is not an IPv6 address"),
        ("[127.0.0.1]:80", "has '127.0.0.1', which is not an IPv6 address"),
        ("[fe80::1%eth0]:80", "has the zone 'eth0'; write the number of the network interface"),
        ("::1", "is an IPv6 address without brackets; write for example [::1]:8080"),
        ("::1:8080", "is an IPv6 address without brackets; write for example [::1]:8080"),
        ("127.0.0.1:65536", "has port 65536; the highest is 65535"),
        ("99999999999999999999", "has port 99999999999999999999; the highest is 65535"),
        ("127.0.0.1:+80", "has the port '+80', which is not a number"),
        ("localhost:http", "has the port 'http', which is not a number"),
        ("*:80", "has no host; for all interfaces write 0.0.0.0:80 or [::]:80"),
        ("http://127.0.0.1:80/a", "is a URL; write only host and port: 127.0.0.1:80"),
        ("127.1:80", "has '127.1', which is not an IPv4 address"),
        ("256.0.0.1:80", "has '256.0.0.1', which is not an IPv4 address"),
        ("0x7f000001:80", "has '0x7f000001', which is not an IPv4 address"),
        ("a..b:80", "has the host 'a..b', which is not a host name"),
        ("a,b:80", "has the host 'a,b', which is not a host name"),
        ("münchen.example:80", "has the host 'münchen.example'; write its ASCII form, which begins with xn--"),
        (" 80", "has a space in it; write for example 127.0.0.1:8080"),
        ("/ip4/127.0.0.1", "has no port; write for example /ip4/127.0.0.1/tcp/8080"),
        ("/ip4/127.0.0.1/tcp", "has no port; write for example /ip4/127.0.0.1/tcp/8080"),
        ("/ip4/127.0.0.1/udp/53", "is udp; only tcp is tunnelled: /ip4/127.0.0.1/tcp/53"),
        ("/ip4/127.0.0.1/sctp/53", "has '/sctp' where '/tcp/<port>' belongs"),
        ("/ip4/127.0.0.1/tcp/80/p2p/Qm", "has a peer id; it ends after the port: /ip4/127.0.0.1/tcp/80"),
        ("/ip4/127.0.0.1/tcp/80/ws", "goes on with '/ws'; it ends after the port: /ip4/127.0.0.1/tcp/80"),
        ("/ip4/127.0.0.1/tcp/65536", "has port 65536; the highest is 65535"),
        ("/ip4/::1/tcp/80", "has '::1', which is not an IPv4 address"),
        ("/ip6/127.0.0.1/tcp/80", "has '127.0.0.1', which is not an IPv6 address"),
        ("/ip6zone/0/ip6/fe80::1/tcp/80", "has the zone '0'; write the number of the network interface"),
        ("/ip6zone/3/ip4/127.0.0.1/tcp/80", "has no '/ip6' behind its '/ip6zone'"),
        ("/dns/127.0.0.1/tcp/80", "has '127.0.0.1', which is not an IPv4 address"),
        ("/dns//tcp/80", "has the host '', which is not a host name"),
        ("/tcp/80", "has no host; write /ip4/127.0.0.1/tcp/80"),
        ("/p2p/Qm", "names a peer, where an address of this machine is needed, such as 127.0.0.1:8080"),
        ("/", "is not of a known form; write for example /ip4/127.0.0.1/tcp/8080"),
        ("/foo/bar", "is not of a known form; write for example /ip4/127.0.0.1/tcp/8080"),
        ("unix:", "has no absolute path; write for example unix:/run/app.sock"),
        ("/unix", "has no absolute path; write for example unix:/run/app.sock"),
        ("unix:app.sock", "has no absolute path; write for example unix:/run/app.sock"),
        ("unix://app.sock", "has a host in its path; write unix:/app.sock"),
        ("unix:@app", "is an abstract socket; write the path of a socket file, for example unix:/run/app.sock"),
        ("unix:/", "names no socket file; write for example unix:/run/app.sock"),
        ("/unix/run/", "names no socket file; write for example unix:/run/app.sock"),
        ("unix:/run/..", "names no socket file; write for example unix:/run/app.sock"),
        (&format!("{long_host}:80"), &format!("has the host '{long_host}', which is not a host name")),
    ] {
        assert_eq!(refusal(LocalAddress::parse_listen(text)), format!("listen address '{text}' {why}"));
        assert_eq!(refusal(LocalAddress::parse_target(text)), format!("target address '{text}' {why}"));
    }
    assert_eq!(refusal(LocalAddress::parse_listen("")), "listen address is empty; write for example 127.0.0.1:8080");
    for text in ["127.0.0.1:80\n", "unix:/a\0b"] {
        let message = refusal(LocalAddress::parse_listen(text));
        assert!(message.contains("has a control character at byte"), "{message}");
    }
}

#[test]
fn the_longest_unix_path_has_107_bytes() {
    let path = format!("/{}", "a".repeat(106));
    assert_eq!(listen(&format!("unix:{path}")), LocalAddress::Unix(path.clone().into()));
    let message = refusal(LocalAddress::parse_listen(&format!("unix:{path}b")));
    assert!(message.ends_with("has a path of 108 bytes; a Unix socket's path has at most 107"), "{message}");
    let message = refusal(LocalAddress::parse_listen(&"1".repeat(1001)));
    assert!(message.ends_with("is 1001 bytes long; at most 1000 are allowed"), "{message}");
}

#[test]
fn sentences_fit_however_long_the_culprit_is() {
    let long = "a".repeat(400);
    for text in [
        format!("/ip4/{long}/tcp/{long}"),
        format!("/ip4/{long}/tcp/1/{long}"),
        format!("/ip4/{long}/udp/{long}"),
        format!("/ip4/{long}/{long}"),
        format!("/tcp/{long}"),
        format!("unix://{long}"),
        format!("[{long}]"),
        format!("{long}://{long}"),
        format!("{long}:{long}"),
        long.clone(),
    ] {
        refusal(LocalAddress::parse_listen(&text));
    }
}
