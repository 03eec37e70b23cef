// ShotViews: the pieces of an answer: a picture, the likeliest classes, boxes, plain numbers.

import SwiftUI

/// What the model sees, not what the photo library holds: a wrong crop shows at once.
struct RasterView: View {
    let raster: Raster?
    let label: String

    var body: some View {
        Group {
            if let image = raster.flatMap(Picture.image) {
                Image(image, scale: 1, label: Text(verbatim: label)).resizable().scaledToFit()
            } else {
                Rectangle().fill(.quaternary).aspectRatio(1, contentMode: .fit)
            }
        }
        .clipShape(RoundedRectangle(cornerRadius: 12))
        .frame(maxWidth: 360)
        .accessibilityElement()
        .accessibilityAddTraits(.isImage)
        .accessibilityLabel(label)
    }
}

struct TopClasses: View {
    let plan: Plan
    let answer: Answer

    var body: some View {
        VStack(alignment: .leading, spacing: 10) {
            ForEach(answer.top(5), id: \.index) { entry in
                VStack(alignment: .leading, spacing: 2) {
                    HStack(alignment: .firstTextBaseline) {
                        Text(verbatim: plan.label(entry.index))
                        Spacer()
                        Text(Double(entry.score), format: .percent.precision(.fractionLength(1))).monospacedDigit()
                    }
                    ProgressView(value: min(max(Double(entry.score), 0), 1)).accessibilityHidden(true)
                }
                .accessibilityElement(children: .combine)
            }
        }
        .frame(maxWidth: 480)
    }
}

struct BoxesView: View {
    let plan: Plan
    let shot: Shot

    var body: some View {
        let found = boxes
        VStack(spacing: 16) {
            RasterView(raster: shot.seen, label: "The picture as the model sees it")
                .overlay {
                    GeometryReader { space in
                        ForEach(found.indices, id: \.self) { i in frame(found[i], space.size) }
                    }
                    .accessibilityHidden(true)
                }
            Text(found.isEmpty ? "Nothing found" : "\(found.count) found").font(.headline)
            VStack(alignment: .leading, spacing: 8) {
                ForEach(found.indices, id: \.self) { i in
                    HStack {
                        Text(verbatim: plan.label(found[i].index))
                        Spacer()
                        Text(Double(found[i].score), format: .percent.precision(.fractionLength(0))).monospacedDigit()
                    }
                    .accessibilityElement(children: .combine)
                }
            }
            .frame(maxWidth: 480)
        }
    }

    private var boxes: [Box] {
        guard let reading = plan.boxes, let picture = plan.picture else { return [] }
        return reading.read(shot.answer.outputs, width: picture.width, height: picture.height)
    }

    private func frame(_ box: Box, _ size: CGSize) -> some View {
        let (width, height) = (CGFloat(box.right - box.left) * size.width, CGFloat(box.bottom - box.top) * size.height)
        return Rectangle()
            .stroke(.yellow, lineWidth: 2)
            .frame(width: max(width, 0), height: max(height, 0))
            .offset(x: CGFloat(box.left) * size.width, y: CGFloat(box.top) * size.height)
    }
}

/// Plain numbers: name, count, range and the first values of each output.
struct OutputTable: View {
    let answer: Answer

    var body: some View {
        VStack(alignment: .leading, spacing: 12) {
            ForEach(answer.outputs.keys.sorted(), id: \.self) { name in
                let values = answer.outputs[name] ?? []
                VStack(alignment: .leading, spacing: 2) {
                    Text(verbatim: name).font(.headline)
                    Text("\(values.count) values, \(text(values.min() ?? 0)) to \(text(values.max() ?? 0))").font(.subheadline)
                    Text(verbatim: values.prefix(8).map(text).joined(separator: "  ")).font(.footnote.monospaced())
                }
                .accessibilityElement(children: .combine)
            }
        }
        .frame(maxWidth: 480, alignment: .leading)
    }

    private func text(_ value: Float) -> String {
        value.formatted(.number.precision(.significantDigits(4)))
    }
}

/// A title and a sentence.
struct Message: View {
    let title: String
    let text: String

    var body: some View {
        VStack(spacing: 8) {
            Text(title).font(.headline)
            Text(verbatim: text).font(.subheadline).foregroundStyle(.secondary).multilineTextAlignment(.center)
        }
        .padding()
        .accessibilityElement(children: .combine)
    }
}
