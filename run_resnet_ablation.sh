#!/usr/bin/env bash
# Train the three variants one after the other, with the same flags and seeds, and report them; on request the
# published models too.
#
#   bash run_resnet_ablation.sh                          # KonIQ-10k in ./koniq-10k, the reported recipe
#   bash run_resnet_ablation.sh --demo                   # no data needed: small procedural images, 4 to 10 minutes on 2 cores
#   bash run_resnet_ablation.sh --data_path DIR --epochs 5 --batch_size 64        # extra flags go to every variant
#   SEEDS="42 43 44" bash run_resnet_ablation.sh         # every variant with every seed
#   BACKBONES="resnet50 swin_b" bash run_resnet_ablation.sh      # the three variants on each of them
#   bash run_resnet_ablation.sh --recipe best            # by the recipe of docs/recipe.md instead of the one under test
#   bash run_resnet_ablation.sh --with_published         # then HyperIQA and SMART-IQA; --recipe published for their own
#   NPROC=4 bash run_resnet_ablation.sh                  # 4 GPUs of this machine, which share each batch
#   bash run_resnet_ablation.sh --resume logs/resnet_ablation_YYYYMMDD_HHMMSS     # after an interruption; NPROC again
#
# logs/ and checkpoints/ are made in the current folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/find_python.sh"

recipe=(--no_color_jitter --test_random_crop --seed 42 --save_model)
# From random weights in at most 40 TFLOP (python3 tests/count_demo_flops.py): small patches, many steps, a higher rate that ends at 0.
demo=(--data_path demo-data --weights none --patch_size 32 --epochs 2 --train_patch_num 5 --test_patch_num 16 --batch_size 16
      --lr 5e-4 --head_lr_ratio 1 --lr_schedule cosine --ema 0.95)

fail() {
    echo "error: $1" >&2
    exit "${2:-2}"
}

say() { echo "$1" 2>/dev/null || true; }

child="" signal=""
# Long commands run in the background, in a group of their own, so that one signal to the runner reaches them once.
pass_on() {
    signal=$1
    [[ -z $child ]] || kill -s "$1" "$child" 2>/dev/null || true
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
trap '' PIPE # a reader that goes away (| head) ends neither the runner nor what it starts
supervise() {
    local status=0
    [[ -z $signal ]] || set -- true # it came between two commands
    set -m
    "$@" &
    child=$!
    set +m
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do
        status=0
        wait "$child" || status=$?
    done
    child=
    case $signal in
        INT) status=130 ;;
        TERM) status=143 ;;
    esac
    return "$status"
}

is_demo="" log_dir="" data_path=./koniq-10k with_published="" recipe_of_all="" recipe_of_published="" flags=()
while (($#)); do
    case $1 in
        --help | -h)
            sed -n -e '/^set/q' -e '1d' -e 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit ;;
        --demo) is_demo=yes ;;
        --resume | --resume=*)
            if [[ $1 == --resume ]]; then set -- "--resume=${2:-}" "${@:3}"; fi
            log_dir=${1#*=}
            [[ -n $log_dir ]] || fail "--resume needs the log folder of an ablation" ;;
        --with_published) with_published=$1 ;;
        --recipe | --recipe=*) # one for all rows, or the published models' own
            if [[ $1 == --recipe ]]; then set -- "--recipe=${2:-}" "${@:3}"; fi
            case $1 in
                --recipe=published) recipe_of_published=$1 ;;
                --recipe=best | --recipe=ablation) recipe_of_all=$1 ;;
                *) fail "$1: choose best or ablation, for all rows, or published, for the published models" ;;
            esac ;;
        --model | --model=*)
            fail "$1 is set by the runner; the published models come after the variants with --with_published" ;;
        --backbone | --backbone=*)
            fail "$1 is set by the runner for each variant; name the backbones before it: BACKBONES=\"resnet50\" bash $0" ;;
        --use_multiscale | --use_attention | --output_dir* | --checkpoint_suffix* | --overwrite)
            fail "$1 is set by the runner for each variant; for a single run use train_resnet_improved.py" ;;
        *) flags+=("$1") ;;
    esac
    case $1 in
        --data_path) data_path=${2:-} ;;
        --data_path=*) data_path=${1#*=} ;;
    esac
    shift
done

if [[ -n $log_dir ]]; then
    log_dir=${log_dir%/}
    [[ -z $is_demo$with_published$recipe_of_all$recipe_of_published && ${#flags[@]} == 0 ]] || fail "--resume goes on with the flags of the interrupted ablation: give no others"
    [[ -f $log_dir/ablation_flags ]] || fail "--resume $log_dir: no ablation was started there (no ablation_flags)"
    flags=() BACKBONES=""
    {
        read -r is_demo
        read -r SEEDS
        while IFS= read -r flag; do
            case $flag in
                BACKBONES=*) BACKBONES=${flag#*=} ;;
                --with_published) with_published=$flag ;;
                --recipe=published) recipe_of_published=$flag ;;
                --recipe=*) recipe_of_all=$flag ;;
                *) flags+=("$flag") ;;
            esac
        done
    } <"$log_dir/ablation_flags"
elif [[ -z $is_demo && ! -d $data_path ]]; then
    echo "error: no data in $data_path: get KonIQ-10k (images and metadata) from its authors, database.mmsp-kn.de, and" >&2
    echo "name its folder with --data_path; or try the program without it: bash run_resnet_ablation.sh --demo" >&2
    exit 2
fi
[[ -z $recipe_of_published || -n $with_published ]] || fail "$recipe_of_published is for the published models: add --with_published"
[[ -z $with_published || " ${flags[*]-} " != *" --dropout_rate"* ]] || fail "--dropout_rate and --with_published: \
the published models have their own; leave one out"
read -ra seeds <<<"${SEEDS:-}"
processes=${NPROC:-1}
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "NPROC=$processes: not a number of processes; give 1 or more"

supervise true
find_python requirements.txt || fail "the packages of requirements.txt could not be installed" 1

backbones=${BACKBONES:-resnet50}
# shellcheck disable=SC2086 # one word for each backbone
table=$(PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} "$python" -m iqa.models.variants $backbones) || exit 2
if [[ -n $with_published ]]; then
    # shellcheck disable=SC2086 # nothing, or one flag
    table+=$'\n'$(PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} "$python" -m iqa.models.published $recipe_of_published)
fi
variants=() # a line for each: its log name and its flags
[[ -n $table ]] || fail "BACKBONES=\"$backbones\" names no backbone"
while IFS= read -r line; do variants+=("$line"); done <<<"$table"

if [[ $recipe_of_all == --recipe=best && -n $recipe_of_published ]]; then # what is compared sees the same patches
    recipe+=(--patch_size "$(PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} "$python" -m iqa.training.recipe)")
fi
[[ -z $is_demo ]] || recipe+=("${demo[@]}")
# The flags of every row, before the first one trains for hours.
PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} "$python" -m iqa.training.options "$processes" "${recipe[@]}" \
    ${flags[@]+"${flags[@]}"} ${seeds[@]+"${seeds[@]/#/--seed=}"} <<<"$table" || exit

if [[ -z $log_dir ]]; then
    log_dir=logs/resnet_ablation_$(date +%Y%m%d_%H%M%S)
    mkdir -p logs && mkdir "$log_dir" || fail "$log_dir cannot be made" 1
    printf '%s\n' "$is_demo" "${SEEDS:-}" "BACKBONES=$backbones" $with_published $recipe_of_all $recipe_of_published \
        ${flags[@]+"${flags[@]}"} >"$log_dir/ablation_flags"
fi
if [[ -n $is_demo ]]; then
    supervise "$python" "$here/demo_dataset.py" --output demo-data --images 300 || exit
fi

launch=("$python")
if ((processes > 1)); then launch+=(-m torch.distributed.run --standalone "--nproc_per_node=$processes"); fi

train() { # line of the table, seed or nothing
    local name variant_flags suffix="" mode=() seed=()
    read -r name variant_flags <<<"$1"
    if ((${#seeds[@]} > 1)); then suffix=_seed$2; fi
    if [[ -n $2 ]]; then seed=(--seed "$2"); fi
    local output=$log_dir/$name$suffix
    if [[ -s $output/metrics.jsonl ]]; then mode=(--resume); elif [[ -e $output ]]; then mode=(--overwrite); fi
    if [[ -f $output/result.json ]]; then
        say "$name$suffix is finished"
        return
    fi
    say "== run $number of $runs: $name$suffix, log in $output.log"
    exec 3> >(exec tee -ia "$output.log")
    local tee=$! status=0
    # shellcheck disable=SC2086 # one word for each flag; a published model's own recipe comes after that of all rows
    supervise "${launch[@]}" "$here/train_resnet_improved.py" $recipe_of_all $variant_flags "${recipe[@]}" \
        ${flags[@]+"${flags[@]}"} ${seed[@]+"${seed[@]}"} --output_dir "$output" --checkpoint_suffix "$suffix" \
        ${mode[@]+"${mode[@]}"} >&3 2>&1 3>&- || status=$?
    exec 3>&-
    wait "$tee" 2>/dev/null || true
    [[ -z $signal ]] || exit "$status"
    ((status == 0)) || fail "$name$suffix ended with status $status; read $output.log, then go on with \
bash \"$0\" --resume \"$log_dir\", or start anew with other flags" "$status"
}

runs=$((${#variants[@]} * (${#seeds[@]} > 1 ? ${#seeds[@]} : 1))) number=0
for seed in "${seeds[@]:-}"; do
    for variant in "${variants[@]}"; do
        number=$((number + 1))
        export RUNS_TO_COME=$((runs - number)) # for the time that is shown
        train "$variant" "$seed"
    done
done
supervise "$python" "$here/report_ablation.py" "$log_dir"
