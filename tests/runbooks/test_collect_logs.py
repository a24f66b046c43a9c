"""The shipped collect-logs on a practice fleet: what is fetched, and what never leaves the host."""

import pytest

from tests.support.fleet import Fleet

pytestmark = pytest.mark.acceptance

LOG = "/srv/app/shared/it's a log.txt"
SECRETS = {
    "plain": "password=hunter2-plain next=kept1",
    "json": '{"api_key": "hunter2-json", "level": "kept2"}',
    "words": "db_password = 'hunter2 with words' kept3",
    "url": "connect postgresql://app:hunter2-url@db/kept4",
    "header": 'Authorization: Bearer hunter2header "GET /kept5"',
    "basic": "sent basic aHVudGVyMg== to kept6",
    "cookie": 'Set-Cookie: sessionid=hunter2cookie; Path=/" kept7',
    "query": "GET /kept8?access_token=hunter2query&page=kept9",
    "jwt": "got eyJhbGciOiJIUzI1NiJ9.eyJodW50ZXIyIjoxfQ.hunter2jwt from kept10",
    "cloud": "key AKIAHUNTER2HUNTER2AB of kept11",
    "card": "card 4111 1111 1111 1111 of kept12, 4111111111111111",
    "mail": "mail to hunter2@kept13.example",
    "upper": "SECRET_KEY=hunter2upper kept14",
    "escaped": r'{"password": "ab\"hunter2", "kept16": 1}',
    "nested": r'{"event": "{\"token\": \"a\\\"hunter2\", \"kept17\": 1}"}',
    "header in it": r'{"headers": "{\"Authorization\": \"Token hunter2\"} kept24"}',
    "python": r"{'passwd': u'it\'s hunter2', 'kept18': 1}",
    "rocket": '"secret"=>"hunter2 rocket" kept19',
    "xml": "<password>hunter2xml</password> kept20",
    "curl": "curl -u app:hunter2curl https://kept21/",
    "encoded": "GET /kept22?next=%2Fa%3Ftoken%3Dhunter2",
    "cut off": '{"kept23": 1, "api_key": "hunter2 which is',
    "cut within": r'{"kept25": 1, "api_key": "hunter2 \\'[:-1],
    "cut within it": r'{"kept26": "{\"api_key\": \"hunter2 which is\\\\'[:-2],
    "quoted in it": r"{'kept27': '{\'token\': \'a\\nhunter2 b\'}'}",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nhunter2pem\n-----END RSA PRIVATE KEY----- \nkept15",
}  # fmt: skip


def write(fleet: Fleet, host: str, text: str) -> None:
    quoted = text.replace("'", "'\\''")
    path = LOG.replace("'", "'\\''")
    fleet.sh(host, f"printf '%s\\n' '{quoted}' >'{path}'")


def collect(fleet: Fleet, *words: str, status: int = 0) -> str:
    done = fleet.opskit("run", "collect-logs", "--limit", "web1", *words, status=status)
    return done.stdout + done.stderr


def printed(fleet: Fleet) -> str:
    return fleet.opskit("output", "last", "Read", "web1").stdout


def test_what_is_secret_is_gone_before_it_travels_and_all_else_is_there(fleet: Fleet) -> None:
    write(fleet, "web1", "\n".join(SECRETS.values()))
    said = collect(fleet, "-p", f"files={LOG}")
    found = printed(fleet)
    for number in range(1, 28):
        assert f"kept{number}" in found, found
    for text in (said, found, fleet.opskit("report", "last").stdout):
        assert "unter2" not in text.lower().replace("kept", ""), text
        assert "aHVudGVyMg" not in text
        assert "4111" not in text
    collect(fleet, "-p", f"files={LOG}", "-p", "emails=true")
    assert "hunter2@kept13.example" in printed(fleet)


def test_only_the_end_is_fetched_and_no_line_that_lost_its_front(fleet: Fleet) -> None:
    fleet.sh(
        "web1",
        "for n in $(seq 2000); do echo \"password=hunter2$n line $n $(printf '%0900d' $n)\"; done"
        " >/srv/app/shared/long.log",
    )
    collect(fleet, "-p", "files=/srv/app/shared/long.log", "-p", "bytes=4096")
    rows = printed(fleet).splitlines()
    assert [row.split()[2] for row in rows] == ["1997", "1998", "1999", "2000"]
    assert "hunter2" not in printed(fleet)
    collect(fleet, "-p", "files=/srv/app/shared/long.log", "-p", "lines=7")
    assert len(printed(fleet).splitlines()) == 7
    collect(fleet, "-p", "files=/srv/app/shared/long.log", "-p", "match=line 1999 ")
    assert len(printed(fleet).splitlines()) == 1
    collect(fleet, "-p", "files=/srv/app/shared/long.log", "-p", "match=-e $(id)")
    assert printed(fleet) == ""
    key = "\r\n".join(["aHVudGVyMg" * 6 + "abcd"] * 3 + ["aHVudGVyMg=="])
    write(fleet, "web1", f"-----BEGIN PRIVATE KEY-----\n{key}\r\n-----END PRIVATE KEY-----\nkept")
    collect(fleet, "-p", f"files={LOG}", "-p", "lines=4")
    assert printed(fleet).splitlines()[-1] == "kept"
    assert "aHVudGVyMg" not in printed(fleet), "the line that it begins with was not fetched"


def test_what_is_no_log_is_refused_and_the_next_host_is_asked_all_the_same(fleet: Fleet) -> None:
    fleet.sh("web1", "rm -f /tmp/p; mkfifo /tmp/p")
    assert "there is no /nowhere here" in collect(fleet, "-p", "files=/nowhere", status=1)
    assert "/tmp/p is no plain file" in collect(fleet, "-p", "files=/tmp/p", status=1)
    for wrong in ("files=relative", "files=", "files=/a,b", "lines=0", "lines=100000", "bytes=1"):
        words = ("-p", wrong) if wrong.startswith("files") else ("-p", "files=/a", "-p", wrong)
        collect(fleet, *words, status=2)
    write(fleet, "web2", "only here")
    said = fleet.opskit(
        "run", "collect-logs", "--limit", "web1:web2", "-p", "files=/srv/app/shared/none," + LOG,
        status=1,
    ).stdout  # fmt: skip
    assert "there is no /srv/app/shared/none here" in said
