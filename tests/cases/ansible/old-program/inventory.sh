#!/bin/sh
case "$1" in
--list) echo '{"db": ["db1", "db2"], "app": {"hosts": ["db1"], "vars": {"v": "app"}}, "single": {"x": 1}}' ;;
--host)
    case "$2" in
    db1) echo '{"ansible_user": "ops", "n": 5}' ;;
    db2) ;;
    *) echo '{}' ;;
    esac
    ;;
*) exit 3 ;;
esac
