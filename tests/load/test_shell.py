"""Lint of shell reads: verbs that write, redirections to files, and nothing else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.load.shell import losing, writing

WRITES = [
    ("rm -rf x", 0, "rm -rf"),
    ("test -e a && mv a b", 13, "mv a"),
    ("echo x >out", 7, "> out"),
    ("ls 2>>/tmp/log", 3, ">> /tmp/log"),
    ("{ echo a; } > f", 12, "> f"),
    (": > f", 2, "> f"),
    ("sudo -u bob rm x", 12, "rm x"),
    ("sudo -n systemctl restart app", 8, "systemctl restart"),
    ("timeout 5s systemctl --no-block stop app", 11, "systemctl --no-block"),
    ("env A=1 B=2 tee f", 12, "tee f"),
    ("A=1 tee f", 4, "tee f"),
    ("find . | xargs -n 1 rm", 20, "rm"),
    ("/bin/rm x", 0, "/bin/rm x"),
    ("x=$(mktemp)", 4, "mktemp"),
    ('echo "$(kill 3)"', 8, "kill 3"),
    ("echo `touch x`", 6, "touch x"),
    ("case $x in\n rm) echo a;;\n b) kill 1;;\nesac", 29, "kill 1"),
    ("if test -e x; then rm x; fi", 19, "rm x"),
    ("for f in *; do rm $f; done", 15, "rm $f"),
    ("while read l; do dd if=/a of=/b; done", 17, "dd if=/a"),
    ("f() { rm y; }", 6, "rm y"),
    ("(cd x; rm y)", 7, "rm y"),
    ("sed -i s/a/b/ f", 0, "sed -i"),
    ("sed -ni.bak p f", 0, "sed -ni.bak"),
    ("sh -c 'rm x'", 6, "rm x"),
    ("eval 'rm x'", 5, "rm x"),
    ("find . -name x -delete", 0, "find ."),
    ("tar xf a.tar", 0, "tar xf"),
    ("curl -o f http://127.0.0.1/", 0, "curl -o"),
    ("curl -X POST http://127.0.0.1/", 0, "curl -X"),
    ("git -C x pull", 0, "git -C"),
    ("venv/bin/celery -A shop purge -f", 0, "venv/bin/celery -A"),
    ("celery --app=a -b redis://h control shutdown", 0, "celery --app=a"),
    ("nginx -s reload", 0, "nginx -s"),
    ("ln -s {{ a }} b", 0, "ln -s"),
    ("cat <<EOF | tee f\nx\nEOF", 12, "tee f"),
    ("cat <<EOF\nx\nEOF\nrm y", 16, "rm y"),
    ("{{ x }}; rm y", 9, "rm y"),
    ("{% if a %}rm y{% endif %}", 10, "rm y"),
    ('psql -h db -c "DELETE FROM t WHERE a > 3"', 0, "psql -h"),
    ("psql -Atc 'select 1; drop table t'", 0, "psql -Atc"),
    (
        "psql --command='with x as (select 1) update t set a = 1'",
        0,
        "psql --command=with x as (select 1) update t set a = 1"[:60],
    ),
    ("psql -f x.sql", 0, "psql -f"),
    ("sudo -u postgres psql -c 'VACUUM FULL t'", 17, "psql -c"),
    ("psql -c 'select pg_terminate_backend(3)'", 0, "psql -c"),
    ("mysql -e 'truncate t'", 0, "mysql -e"),
    ("sqlite3 a.db 'insert into t values (1)'", 0, "sqlite3 a.db"),
    ("redis-cli FLUSHALL", 0, "redis-cli FLUSHALL"),
    ("redis-cli -h 10.0.0.1 -p 6379 -n 2 flushdb async", 0, "redis-cli -h"),
    ("redis-cli config set maxmemory 1", 0, "redis-cli config"),
    ("echo a; # note\nrm y", 15, "rm y"),
]
READS = [
    "readlink -e current || test ! -e current",
    "echo hi > /dev/null 2>&1",
    "echo oops >&2",
    "exec 3>&-",
    "echo ok >/dev/stderr",
    "cat <<EOF\nrm -rf /\n> file\nEOF",
    "cat <<-'EOF'\n\trm x\n\tEOF\nls",
    "case $x in\n rm|mv) echo a;;\nesac",
    "grep 'a > b' f",
    'grep "rm -rf" f',
    "echo rm mv # rm x",
    "for f in rm mv; do echo $f; done",
    "find . -name rm",
    "test $((1>2)) = 0",
    "echo ${x:-rm y}",
    "cat f | tee /dev/null",
    "kill -0 3",
    "systemctl is-active app",
    "sed -n 1p f",
    "tar tf a.tar",
    "curl -fsS -o /dev/null http://127.0.0.1/",
    "command -v curl >/dev/null || exit 3",
    "curl -X GET http://127.0.0.1/",
    "git -C x log -1",
    "celery -A control -b purge inspect ping --json -t 5",
    "dpkg -l nginx",
    "nginx -t",
    "{{ verb }} x",
    "ls -l rm",
    "awk '$1 > 3 { print }' f",
    "[ 1 -gt 2 ]",
    "man rm",
    "command -v ls",
    "sort f | head -n 1",
    "date +%s",
    "hostname -f",
    "a=$(cat b) ls",
    "psql -Atc 'select count(*) from updates where deleted'",
    "psql -c 'with x as (select 1) select * from x'",
    "psql -c 'copy (select 1) to stdout'",
    "psql -l",
    "redis-cli -h set info memory",
    "redis-cli config get maxmemory",
    "redis-cli get del",
    "mysql -h db -e 'show processlist'",
]


@pytest.mark.parametrize(("text", "offset", "what"), WRITES, ids=lambda value: str(value)[:40])
def test_a_write_is_found_where_it_stands(text: str, offset: int, what: str) -> None:
    assert list(writing(text)) == [(offset, what)]


@pytest.mark.parametrize("text", READS)
def test_a_read_passes(text: str) -> None:
    assert list(writing(text)) == []


LOSES = [
    ("venv/bin/celery -A shop purge -f", "celery purge"),
    ("cd /srv && sudo -u shop celery --app=shop purge -Q mail", "celery purge"),
    ("/opt/v/bin/python -m celery -A shop purge", "celery purge"),
    ("sh -c 'celery -A shop amqp queue.purge mail'", "celery purge"),
    ("redis-cli -h b -n 1 flushdb", "redis-cli FLUSHDB"),
    ("redis-cli FLUSHALL ASYNC", "redis-cli FLUSHALL"),
    ("valkey-cli -n 1 flushdb", "valkey-cli FLUSHDB"),
    ("uv run celery -A shop purge -f", "celery purge"),
    ("uv --directory /srv run --with redis -- celery -A shop purge", "celery purge"),
    ("uv run -m celery -A shop purge", "celery purge"),
    ("sudo -u shop poetry -C /srv run celery -A shop purge", "celery purge"),
    ("pipenv run python -m celery purge", "celery purge"),
    ("docker exec -it -u app web celery -A shop purge -f", "celery purge"),
    ("docker compose -f a.yml exec -T worker sh -c 'celery -A shop purge -f'", "celery purge"),
    ("docker-compose run --rm -e A=b worker celery -A shop purge", "celery purge"),
    ("podman exec cache redis-cli -n 1 FLUSHDB", "redis-cli FLUSHDB"),
    ("kubectl -n shop exec deploy/worker -c app -- uv run celery -A shop purge", "celery purge"),
    ("kubectl exec -it cache-0 -- valkey-cli flushall", "valkey-cli FLUSHALL"),
]
KEEPS = [
    "celery -A purge inspect ping", "celery -A shop control rate_limit purge 1/m", "apt purge x",
    "redis-cli get flushdb", "nft flush ruleset", "echo celery purge", "python -m pip cache purge",
    "uv run echo celery purge", "uv cache purge", "uv run --with celery echo purge",
    "docker exec -it celery echo celery purge", "docker exec -u celery web inspect purge",
    "docker compose logs celery purge", "kubectl exec celery -- inspect purge",
    "kubectl get celery", "poetry run celery -A purge inspect ping", "docker exec web", "uv run",
    "kubectl exec web --",
]  # fmt: skip


@pytest.mark.parametrize(("text", "what"), LOSES)
def test_what_throws_queues_away_is_found(text: str, what: str) -> None:
    assert [told for _, told in losing(text)] == [what]


@pytest.mark.parametrize("text", KEEPS)
def test_what_throws_no_queue_away_passes(text: str) -> None:
    assert list(losing(text)) == []


PIECES = [
    "'", '"', "`", "$(", ")", "(", "{{ x }}", "{%", "%}", "rm ", "case ", "in ", "esac", ";", ";;",
    "<<", "<<-", "E", ">", "\n", "\\", "${", "}", "a", "|", "&", "#", "$((", "))", " ",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_no_shell_text_makes_it_fall_over(text: str) -> None:
    for offset, what in writing(text):
        assert 0 <= offset <= len(text)
        assert what


@pytest.mark.parametrize("text", ["$(" * 50_000, "`" * 50_000, "rm x\n" * 9_000, "<<A\n" * 5_000])
def test_a_huge_text_takes_no_time(text: str) -> None:
    began = time.process_time()
    list(writing(text))
    assert time.process_time() - began < 3
