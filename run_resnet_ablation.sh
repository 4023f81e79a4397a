#!/usr/bin/env bash
# Train the three variants one after the other, with the same flags and seeds, and write the report.
#
#   bash run_resnet_ablation.sh                          # KonIQ-10k in ./koniq-10k, the default recipe
#   bash run_resnet_ablation.sh --demo                   # needs no data: generated images, 4 to 10 minutes on 2 cores
#   bash run_resnet_ablation.sh --data_path DIR --epochs 5 --batch_size 64      # other flags go to every run
#   SEEDS="42 43 44" bash run_resnet_ablation.sh         # every variant with every seed
#   BACKBONES="resnet50 swin_b" bash run_resnet_ablation.sh                     # the variants on each backbone
#   bash run_resnet_ablation.sh --recipe best            # the recipe of docs/recipe.md
#   bash run_resnet_ablation.sh --with_published         # HyperIQA and SMART-IQA too; their own recipes: --recipe published
#   NPROC=4 bash run_resnet_ablation.sh                  # 4 GPUs of this machine, which share each batch
#   bash run_resnet_ablation.sh --resume logs/resnet_ablation_YYYYMMDD_HHMMSS   # continue an interrupted ablation
#
# The results are written to logs/ and checkpoints/ in the current folder.
if [ -z "${BASH_VERSION-}" ]; then echo "error: this is a script for bash: bash $0" >&2; exit 2; fi
set -euo pipefail
here=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/find_python.sh"

# Flags of every run. Those of the command line come after them and take precedence.
recipe=(--no_color_jitter --test_random_crop --seed 42 --save_model)
# The demo trains from random weights on small patches for many steps: at most 40 TFLOP (tools/count_demo_flops.py).
demo=(--data_path demo-data --weights none --patch_size 32 --epochs 2 --train_patch_num 5 --test_patch_num 16
      --batch_size 16 --lr 5e-4 --head_lr_ratio 1 --lr_schedule cosine --ema 0.95)

say() { echo "$1" 2>/dev/null || true; } # the reader may have closed the pipe (| head)

fail() {
    echo "error: $1" >&2
    exit "${2:-2}"
}

run() { # in the background, so that a signal is handled at once; in its own process group, so that the signal arrives once
    set -m
    "$@" &
    set +m
    wait "${!}"
}

stop() { # pass the signal on to the command that runs, and wait for its end
    if [[ -n ${!-} ]] && kill -s "$1" "${!}" 2>/dev/null; then wait "${!}" || true; fi
    exit "$2"
}

SEEDS=${SEEDS-} BACKBONES=${BACKBONES-}
read -r SEEDS <<<"${SEEDS//$'\n'/ }" # one line, without spaces around it
read -r BACKBONES <<<"${BACKBONES//$'\n'/ }"
[[ $* != *$'\n'* ]] || fail "a flag contains a line break: $(printf ' %q' "$@")"
variables="" # environment variables of this command
for name in SEEDS BACKBONES NPROC PYTHON OMP_NUM_THREADS CUDA_VISIBLE_DEVICES; do
    if [[ -n ${!name-} ]]; then variables+="$name=$(printf %q "${!name}") "; fi
done
again="${variables}bash$(printf ' %q' "$0" "$@")" # the command that continues this one
trap '[[ $? == [02] || -z $again ]] || echo "To go on: $again" >&2' EXIT # status 2: a wrong flag, which would fail again
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM
trap 'stop HUP 129' HUP # ignored under nohup
trap '' PIPE TTOU       # TTOU: a background process writes to a terminal with `stty tostop`

log_dir="" made="" is_demo="" with_published=""
if [[ ${1-} == --resume* ]]; then # ablation_flags has the seeds, the backbones and the flags
    if [[ $1 == --resume=* ]]; then set -- --resume "${1#*=}" "${@:2}"; fi
    ablations=(logs/*/ablation_flags) log_dir=${2-}
    log_dir=${log_dir%/}
    (($# <= 2)) || fail "--resume uses the flags of the interrupted ablation: give no others"
    advice="choose from ${ablations[*]%/*}"
    [[ -f ${ablations[0]} ]] || advice="leave --resume out to begin one"
    [[ -f $log_dir/ablation_flags ]] || fail "--resume $log_dir: contains no ablation; $advice"
    given=$SEEDS
    { read -r is_demo && read -r SEEDS; } <"$log_dir/ablation_flags"
    [[ ${given:-$SEEDS} == "$SEEDS" ]] || fail "SEEDS=\"$given\": the interrupted ablation has SEEDS=\"$SEEDS\"; leave it out"
    set -- ${is_demo:+--demo} && BACKBONES="" is_demo=""
    while IFS= read -r flag; do set -- "$@" "$flag"; done < <(tail -n +3 "$log_dir/ablation_flags")
fi
for flag; do
    shift
    case $flag in
        --help | -h) sed -n -e '/^set/q' -e '1d' -e 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
        --demo) [[ -n $is_demo ]] || recipe+=("${demo[@]}") && is_demo=$flag ;;
        --with_published) with_published=$flag ;;
        BACKBONES=*) BACKBONES=${flag#*=} ;;
        *) set -- "$@" "$flag" ;;
    esac
done
[[ -n $is_demo || -d koniq-10k || $* == *--data_path* ]] || fail "no data in ./koniq-10k: get KonIQ-10k from \
database.mmsp-kn.de, name your data with --data_path, or try the program without data: bash $0 --demo"

find_python requirements.txt || exit 1
# One line for each run, in order: its log name and its flags. All flags are checked before the first run begins.
export SEEDS BACKBONES=${BACKBONES:-resnet50} NPROC=${NPROC:-1}
runs=$("$python" "$here/iqa/ablation.py" $is_demo $with_published "${recipe[@]}" "$@") || exit
total=$(($(wc -l <<<"$runs"))) number=0

if [[ -n $is_demo ]]; then run "$python" "$here/demo_dataset.py" --output demo-data --images 300; fi
if [[ -z $log_dir ]]; then
    mkdir -p logs
    until log_dir=logs/resnet_ablation_$(date +%Y%m%d_%H%M%S) && mkdir "$log_dir" 2>/dev/null; do
        [[ -d $log_dir ]] || fail "$log_dir cannot be made" 1
        sleep 1 # another ablation has this name
    done
    made=yes
    printf '%s\n' "${is_demo:+yes}" "$SEEDS" "BACKBONES=$BACKBONES" $with_published "$@" >"$log_dir/ablation_flags"
fi
again="${variables}bash$(printf ' %q' "$0" --resume "$log_dir")"

launch=("$python")
if ((NPROC > 1)); then launch+=(-m torch.distributed.run --standalone "--nproc_per_node=$NPROC"); fi
while read -r name flags <&3; do
    number=$((number + 1)) output=$log_dir/$name how=""
    if [[ -f $output/result.json ]]; then
        say "$name is finished"
        continue
    fi
    if [[ -e $output/config.json ]]; then how=--resume; fi
    say "== run $number of $total: $name, log in $output.log"
    export ABLATION_RUN=$number/$total
    # shellcheck disable=SC2086 # one word for each flag
    run "${launch[@]}" "$here/train_resnet_improved.py" "${recipe[@]}" "$@" $flags --output_dir "$output" $how || {
        status=$? log=""
        if [[ $status == 1 && -n $made && $(ls -A "$log_dir") == ablation_flags ]]; then # it was refused, and its error says why
            again="" && rm -r "$log_dir" && { rmdir logs 2>/dev/null || true; }
            exit 1
        fi
        if [[ -e $output.log ]]; then log="; its log is $output.log"; fi
        fail "$name ended with status $status$log" "$status"
    }
done 3<<<"$runs"
again="$(printf '%q ' "$python" "$here/report_ablation.py" "$log_dir")"
run "$python" "$here/report_ablation.py" "$log_dir"
