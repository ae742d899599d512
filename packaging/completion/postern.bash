# Completion of postern in bash: asks the program itself (`postern complete`).
_postern() {
    local line=${COMP_LINE:0:COMP_POINT} word cut candidate
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    word=${words[${#words[@]} - 1]}
    # bash replaces only what is behind the last of these
    cut=${word%"${word##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        case $candidate in
        :files) compopt -o default ;;
        :dirs) compopt -o dirnames ;;
        :commands) mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
        *)
            COMPREPLY+=("${candidate#"$cut"}")
            [[ $candidate != *: ]] || compopt -o nospace
            ;;
        esac
    done < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _postern postern
