// ClassifierScreen: pick a photo, see the five likeliest classes.

import PhotosUI
import SwiftUI

struct ClassifierScreen: View {
    let plan: Plan
    @State private var picked: PhotosPickerItem?
    @State private var shown: UIImage?
    @State private var answer: Answer?
    @State private var problem: String?

    var body: some View {
        NavigationStack {
            ScrollView {
                VStack(spacing: 16) {
                    SeenPicture(image: shown)
                    if let answer { TopClasses(plan: plan, answer: answer) }
                    if let problem { Text(problem).foregroundStyle(.red) }
                }
                .padding()
            }
            .navigationTitle(plan.title)
            .toolbar {
                PhotosPicker(selection: $picked, matching: .images) { Label("Choose a photo", systemImage: "photo") }
            }
        }
        .task(id: picked) { await predict() }
    }

    private func predict() async {
        do {
            let raster: Raster
            if let picked {
                guard let data = try await picked.loadTransferable(type: Data.self) else { return }
                raster = Picture.fit(try Picture.decode(data), plan.feeding)
            } else if let photo = plan.photos.first {
                raster = try Picture.decode(Plan.resource(photo.seen))
            } else {
                return
            }
            shown = Picture.image(raster)
            answer = try await Predictor(plan: plan, processor: .neuralEngine).predict(raster)
            problem = nil
        } catch {
            problem = error.localizedDescription
        }
    }
}

/// What the model sees, not what the photo library holds: a wrong crop shows at once.
struct SeenPicture: View {
    let image: UIImage?

    var body: some View {
        Group {
            if let image {
                Image(uiImage: image).resizable().scaledToFit().clipShape(RoundedRectangle(cornerRadius: 12))
            } else {
                RoundedRectangle(cornerRadius: 12).fill(.quaternary).aspectRatio(1, contentMode: .fit)
            }
        }
        .frame(maxWidth: 360)
        .accessibilityLabel("The picture as the model sees it")
    }
}

struct TopClasses: View {
    let plan: Plan
    let answer: Answer

    var body: some View {
        VStack(alignment: .leading, spacing: 10) {
            ForEach(answer.top(5), id: \.index) { entry in
                VStack(alignment: .leading, spacing: 2) {
                    HStack {
                        Text(plan.labels.indices.contains(entry.index) ? plan.labels[entry.index] : "class \(entry.index)")
                        Spacer()
                        Text(entry.score, format: .percent.precision(.fractionLength(1))).monospacedDigit()
                    }
                    ProgressView(value: min(max(Double(entry.score), 0), 1))
                }
                .accessibilityElement(children: .combine)
            }
        }
    }
}
