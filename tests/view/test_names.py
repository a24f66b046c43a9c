from opskit.view import amounts, names


def test_neighbours_are_joined_and_the_rest_stands_alone() -> None:
    hosts = ["web1", "web2", "web3", "web4", "db1", "web9"]
    assert names.ranges(hosts) == ["web1..web4", "db1", "web9"]


def test_three_hosts_are_still_written_out() -> None:
    assert names.ranges(["web1", "web2", "web3"]) == ["web1", "web2", "web3"]


def test_padded_numbers_join_only_with_the_same_padding() -> None:
    assert names.ranges([f"n{n:02}" for n in range(8, 12)]) == ["n08..n11"]
    assert names.ranges(["n08", "n9", "n10", "n11"]) == ["n08", "n9", "n10", "n11"]


def test_what_does_not_fit_is_counted() -> None:
    hosts = [f"{letter}host" for letter in "abcdefghijklmnop"]
    line = names.listed(hosts, 40)
    assert len(line) <= 40
    assert line.endswith("… (16 hosts)")


def test_a_range_says_how_many_hosts_it_stands_for() -> None:
    assert names.listed([f"web{n}" for n in range(1, 201)]) == "web1..web200 (200 hosts)"


def test_wrapping_loses_no_host() -> None:
    hosts = [f"{letter}{n}" for n in (1, 5, 9) for letter in "abcdefgh"]
    lines = names.wrapped(hosts, 30)
    assert " ".join(lines).split() == hosts
    assert max(map(len, lines)) <= 30


def test_durations_and_sizes_read_well() -> None:
    seconds = (0, 0.0002, 0.008, 0.26, 9.94, 9.96, 59.4, 59.6, 92, 3723)
    assert [amounts.duration(s) for s in seconds] == [
        "0.0s", "1ms", "8ms", "0.3s", "9.9s", "10s", "59s", "1:00", "1:32", "1:02:03",
    ]  # fmt: skip
    assert [amounts.size(n) for n in (0, 999, 1000, 12_345_678, 2 * 10**9)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "2.0 GB",
    ]  # fmt: skip
    assert amounts.ago(7300) == "2 h ago"
