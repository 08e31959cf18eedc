# Writes OUT, a C file with the bytes of FILE as the text NAME, declared in HEADER.
# Run as a script: cmake -DOUT=... -DFILE=... -DNAME=... -DHEADER=... -P EmbedText.cmake
file(READ ${FILE} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "#include \"${HEADER}\"\n\nconst char ${NAME}[] = {${bytes}0};\n")
