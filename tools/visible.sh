#!/bin/sh
# visible.sh SOURCE_ROOT DIR FOLDER...: makes DIR hold links to just these folders of src/, so that a library that has
# DIR as its include path cannot include anything else.
set -eu
source=$1/src dir=$2
shift 2
mkdir -p "$dir"
for folder; do ln -sfn "$source/$folder" "$dir/$folder"; done
